"""The router recal, its ablations and the other estimators through the face that users get."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recal_bench import routers
from recal_bench.calibration import ESTIMATORS, Calibration, Spread
from recal_bench.errors import RecalBenchError, SettingsError
from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.recal import RecalRouter
from recal_bench.routers import Calls, Context, Queries, Train, decide

ABLATIONS = (
    "recal-plain", "recal-no-components", "recal-no-reweighting", "recal-no-dataset-norm", "recal-inverse-weights",
    "recal-no-floor",
)  # fmt: skip
NAMES = (*ESTIMATORS, *ABLATIONS)
WORDS = ("river lake sea water", "theorem proof algebra number", "song melody choir drum")
ARMS = (Arm("large", "cot"), Arm("large", "direct"), Arm("small", "direct"))
SMALL = {"steps": 60, "batch_size": 32, "group_size": 8, "learning_rate": 0.02, "prior.k": 10, "prior.scale": 5.0}


def outcomes(rows: int = 150, seed: int = 0, has_cost: bool = True, missing: float = 0.0) -> Outcomes:
    """Three topics; arm t is nearly always right on topic t, the others seldom."""
    rng = np.random.default_rng(seed)
    topic_Q = np.arange(rows) % 3
    prompts = [" ".join(rng.choice(WORDS[topic].split(), 6)) + f" {rng.integers(99)}" for topic in topic_Q]
    score_QA = (rng.random((rows, 3)) < np.where(np.arange(3) == topic_Q[:, None], 0.95, 0.1)).astype(float)
    score_QA[(rng.random((rows, 3)) < missing) & (np.arange(3) != topic_Q[:, None])] = np.nan
    cost_QA = np.tile([0.003, 0.002, 0.001], (rows, 1)) if has_cost else np.full((rows, 3), np.nan)
    return Outcomes(
        task_Q=np.array(["even" if row % 2 else "odd" for row in range(rows)], dtype=object),
        query_id_Q=np.array([f"q{seed}-{row:03d}" for row in range(rows)], dtype=object),
        prompt_Q=np.array(prompts, dtype=object),
        split_Q=np.array(["train"] * rows, dtype=object),
        arms=ARMS,
        score_QA=score_QA,
        cost_QA=np.where(np.isnan(score_QA), np.nan, cost_QA),
        name="topics",
        data_hash="",
    )


def split(of: Outcomes, objective: Objective | None = None) -> Train:
    objective = objective or Objective.from_train(of.score_QA, of.cost_QA)
    return Train(Queries(tuple(of.query_id_Q), tuple(of.prompt_Q)), of, objective)


def calls(of: Outcomes) -> Calls:
    return Calls(of.arms, Objective(), np.ones((len(of), len(of.arms)), dtype=bool), np.arange(3.0))


def fitted(folder: Path, name: str = "recal", log: Any = lambda line: None, train: Any = None, **settings: Any) -> Any:
    router = routers.create(name, {**SMALL, **{key.replace("__", "."): value for key, value in settings.items()}})
    train = train or split(outcomes())
    router.fit(train, split(outcomes(60, 1), train.objective), Context(0, "cpu", folder, log))
    return router


def routed(router: Any, of: Outcomes) -> np.ndarray:
    return decide(router, split(of).queries, calls(of)).arm_Q


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("prior", ["none"])
def test_the_right_arm_of_every_topic_is_found(tmp_path: Path, name: str, prior: str) -> None:
    arm_Q = routed(fitted(tmp_path, name, prior__kind=prior), outcomes(60, 2))
    assert (arm_Q == np.arange(60) % 3).mean() > 0.95


@pytest.mark.parametrize("prior", ["knn", "none"])
def test_a_loaded_router_routes_alike(tmp_path: Path, prior: str) -> None:
    router = fitted(tmp_path, prior__kind=prior)
    router.save(tmp_path / "router")
    loaded = routers.create("recal", routers.settings_of(router))
    loaded.load(tmp_path / "router")
    test = outcomes(60, 2)
    np.testing.assert_array_equal(routed(loaded, test), routed(router, test))
    assert not any(path.suffix in (".pkl", ".pt") for path in (tmp_path / "router").rglob("*"))


def test_a_folder_without_a_policy_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecalBenchError, match="holds no usable policy"):
        routers.create("recal").load(tmp_path)
    (tmp_path / "policy.safetensors").write_bytes(b"torn")
    with pytest.raises(RecalBenchError, match="holds no usable policy"):
        routers.create("recal").load(tmp_path)


def test_arms_may_be_fewer_or_in_another_order_but_not_unknown(tmp_path: Path) -> None:
    router, test = fitted(tmp_path), outcomes(60, 2)
    queries = split(test).queries
    turned = Calls(ARMS[::-1], Objective(), np.ones((60, 3), dtype=bool), np.arange(3.0))
    np.testing.assert_array_equal(2 - decide(router, queries, turned).arm_Q, routed(router, test))
    fewer = Calls(ARMS[:2], Objective(), np.ones((60, 2), dtype=bool), np.arange(2.0))
    assert set(decide(router, queries, fewer).arm_Q) == {0, 1}
    other = Calls((Arm("new", "cot"),), Objective(), np.ones((60, 1), dtype=bool), np.zeros(1))
    with pytest.raises(RecalBenchError, match=r"not trained on the arms new\|cot"):
        decide(router, queries, other)


def test_missing_outcomes_are_neither_drawn_nor_chosen(tmp_path: Path) -> None:
    holey = outcomes(150, 0, missing=0.4)
    holey.score_QA[3] = np.nan
    lines: list[dict[str, Any]] = []
    router = fitted(tmp_path, train=split(holey), log=lines.append)
    assert all(np.isfinite(line["reward"]) for line in lines[1:])
    test = outcomes(60, 2, missing=0.4)
    masked = Calls(ARMS, Objective(), test.observed_QA, np.arange(3.0))
    assert (decide(router, split(test).queries, masked).arm_Q == np.arange(60) % 3).mean() > 0.95


def test_without_cost_the_score_is_what_is_learnt(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    free = split(outcomes(has_cost=False))
    router = fitted(tmp_path, train=free, log=lines.append)
    assert not any("cost" in key for key in lines[-1])
    assert (routed(router, outcomes(60, 2)) == np.arange(60) % 3).mean() > 0.95
    with pytest.raises(RecalBenchError, match="reward=router-r1 needs the cost"):
        fitted(tmp_path, train=free, reward="router-r1")


def test_a_split_without_any_outcome_is_refused(tmp_path: Path) -> None:
    nothing = outcomes(6)
    nothing.score_QA[:] = np.nan
    with pytest.raises(RecalBenchError, match="no outcome to learn from"):
        fitted(tmp_path, train=Train(split(nothing).queries, nothing, Objective()))


def test_the_order_of_the_rows_does_not_matter(tmp_path: Path) -> None:
    of, test = outcomes(), outcomes(60, 2)
    objective = split(of).objective
    turned = of.take(np.arange(len(of))[::-1])
    first = fitted(tmp_path, train=split(of, objective))
    second = fitted(tmp_path, train=split(turned, objective))
    np.testing.assert_array_equal(routed(first, test), routed(second, test))
    for name, value in first._policy.state_dict().items():
        np.testing.assert_array_equal(value, second._policy.state_dict()[name])


def test_router_r1_reward_and_the_cost_gate_train(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    fitted(tmp_path, log=lines.append, reward="router-r1")
    assert lines[-1]["component_mean/router-r1"] > lines[1]["component_mean/router-r1"]
    fitted(tmp_path, log=lines.append, cost_gate=True)
    assert lines[-1]["validation_score"] > 0.8


@pytest.mark.parametrize(
    ("changed", "shrinks"), [({}, True), ({"cost_gate": True}, False), ({"reward": "router-r1"}, False)]
)
def test_a_reward_that_asks_whether_an_answer_is_right_gets_outcomes_as_they_are(
    tmp_path: Path, changed: dict[str, Any], shrinks: bool
) -> None:
    half, whole = (fitted(tmp_path, steps=20, trust=trust, **changed)._policy.state_dict() for trust in (0.1, 1.0))
    assert any(not torch.equal(value, whole[name]) for name, value in half.items()) == shrinks


def test_all_names_are_one_class_one_loop_and_one_search_space() -> None:
    made = {name: routers.create(name) for name in NAMES}
    own = {name for name, router in made.items() if type(router) is not RecalRouter}
    assert own == {name for name in ESTIMATORS if ESTIMATORS[name].settings is Spread}
    assert all(isinstance(router, RecalRouter) for router in made.values())
    differing = {
        key
        for key, value in routers.settings_of(made["recal"]).items()
        if any(routers.settings_of(router).get(key) != value for router in made.values())
    }
    assert all(key.startswith("calibration.") or key in ("estimator", "clip_high") for key in differing)
    assert set(RecalRouter.space) <= set(routers.setting_names(RecalRouter))
    for key, values in RecalRouter.space.items():
        for value in values:
            assert routers.settings_of(routers.create("recal", {key: value}))[key] == value


def test_an_estimator_that_divides_by_a_spread_says_how() -> None:
    as_trl = routers.create("grpo", {"calibration.ddof": "1", "calibration.eps": "1e-4"})
    assert as_trl.calibration == Spread(ddof=1, eps=1e-4)
    assert routers.create("gdpo").calibration == Spread(ddof=0, eps=1e-6)
    # Another estimator takes its own defaults, and never drops what was set.
    assert (
        ESTIMATORS["recal"].settings_from(routers.create("grpo", {"estimator": "recal"}).calibration) == Calibration()
    )
    assert ESTIMATORS["grpo"].settings_from(routers.create("recal", {"estimator": "grpo"}).calibration) == Spread()
    with pytest.raises(SettingsError, match=r"calibration\.ddof .* not settings of estimator dr-grpo"):
        routers.create("grpo", {"estimator": "dr-grpo", "calibration.ddof": "1"})
    with pytest.raises(SettingsError, match=r"calibration\.ddof=2"):
        routers.create("lite-ppo", {"calibration.ddof": "2"})


@pytest.mark.parametrize(
    ("key", "word", "value"),
    [
        ("calibration.components", "off", False),
        ("calibration.reweighting", "off", False),
        ("calibration.reweighting", "on", True),
        ("calibration.reweighting", "inverse", "inverse"),
        ("calibration.dataset_norm", "batch", "batch"),
        ("calibration.floor", "0.25", 0.25),
        ("prior.kind", "none", "none"),
        ("steps", "25", 25),
    ],
)
def test_settings_are_read_from_words(key: str, word: str, value: Any) -> None:
    assert routers.settings_of(routers.create("recal", {key: word}))[key] == value


@pytest.mark.parametrize(
    ("key", "word"),
    [
        ("steps", "0"),
        ("policy.malformed", "1"),
        ("policy.malformed", "0"),
        ("calibration.reweighting", "sideways"),
        ("kl", "-1"),
    ],
)
def test_settings_out_of_range_are_refused(key: str, word: str) -> None:
    with pytest.raises(RecalBenchError, match=key):
        routers.create("recal", {key: word})


def test_on_real_outcomes_it_is_better_than_any_single_model(tmp_path: Path, data_folder: Path) -> None:
    from recal_bench.experiments.bench import load_bench

    bench = load_bench(data_folder / "routerdc_7llm.parquet", tasks=("gsm8k", "humaneval", "arc_challenge"))
    router = routers.create("recal", {"steps": 100})
    router.fit(bench.train, bench.validation, Context(0, "cpu", tmp_path, lambda line: None))
    validation = bench.splits.validation
    arm_Q = decide(router, bench.validation.queries, bench.calls(validation)).arm_Q
    assert validation.score_QA[np.arange(len(arm_Q)), arm_Q].mean() > validation.score_QA.mean(axis=0).max() - 0.02
