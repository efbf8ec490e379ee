"""The ridge regression that the router `ridge` is, and that doubly robust estimates start from."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_log import write_small_log
from test_baselines import cache, part, with_gaps, world  # noqa: F401

from recal_bench.experiments.bench import load_bench, queries_of
from recal_bench.routers import Context, create
from recal_bench.toolbox.ridge import fit_ridge, ridge_weights
from recal_bench.toolbox.targets import in_fixed_order, linear_inputs, targets_of

WITHOUT_DISCOVERY = """
import sys
from pathlib import Path
import numpy as np
from recal_bench.experiments.bench import load_bench
from recal_bench.routers import ROUTERS
expected_utility = load_bench(Path(sys.argv[1])).expected_utility
assert "ridge" not in ROUTERS
np.savez(sys.argv[2], **expected_utility)
"""


def test_the_expected_utility_needs_no_router_that_was_discovered(tmp_path: Path) -> None:
    path = write_small_log(tmp_path / "log.parquet")
    subprocess.run([sys.executable, "-c", WITHOUT_DISCOVERY, path, tmp_path / "expected.npz"], check=True)
    bench = load_bench(path)
    ridge = create("ridge")
    ridge.fit(bench.train, bench.validation, Context(0, "cpu", tmp_path, lambda line: None))
    with np.load(tmp_path / "expected.npz") as expected:
        assert set(expected) == {"validation", "test"}
        for name, expected_QA in expected.items():
            queries = queries_of(bench.splits.parts[name])
            np.testing.assert_allclose(expected_QA, bench.objective.utility(*ridge.predict(queries)), atol=1e-9)


@given(st.integers(0, 99), st.floats(0.1, 100.0))
def test_weights_are_where_the_penalised_error_has_no_slope(seed: int, penalty: float) -> None:
    rng = np.random.default_rng(seed)
    input_QE, target_QC = rng.normal(size=(20, 4)), rng.normal(size=(20, 3))
    weight_EC = ridge_weights(input_QE, target_QC, penalty)
    slope_EC = input_QE.T @ (input_QE @ weight_EC - target_QC) + penalty * weight_EC
    np.testing.assert_allclose(slope_EC, 0.0, atol=1e-9)


def test_arms_with_gaps_of_their_own_are_fitted_each_on_what_is_known_of_it() -> None:
    train = in_fixed_order(part(with_gaps(world(240), 0.4), "train"))
    fit, targets = fit_ridge(train, penalty=3.0), targets_of(train)
    input_QE = linear_inputs(fit.text_encoder, train.queries)
    assert len(np.unique(targets.known_QC, axis=1).T) == len(train.outcomes.arms)
    for known_Q, excess_Q, weight_E in zip(targets.known_QC.T, targets.excess_QC.T, fit.weight_EC.T, strict=True):
        (expected_E,) = ridge_weights(input_QE[known_Q], excess_Q[known_Q, None], 3.0).T
        np.testing.assert_allclose(weight_E, expected_E, atol=1e-9)
