"""Arms that train does not hold: who can adapt meets them with a few labels, others stay with what they know."""

import json
from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import write_small_log

from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.deployed import DeployedRouter
from recal_bench.experiments.records import read_runs
from recal_bench.experiments.variants import with_held_out

NEW = "codex-iuris|direct"
ADAPTS = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers import router

@router("adapts")
@dataclass
class Adapts:
    '''The arm of the highest mean utility, of new arms too.'''
    deterministic: ClassVar[bool] = True

    def fit(self, train, validation, context):
        self.arms = train.outcomes.arms
        self.value_A = mean_over_observed(train.utility_QA)

    def adapt(self, arms, few):
        assert few.outcomes.arms == tuple(arms)
        assert len(few.outcomes) == 20
        self.arms += tuple(arms)
        self.value_A = np.append(self.value_A, mean_over_observed(few.utility_QA) + 1)

    def route(self, queries, calls):
        assert calls.arms == self.arms
        return calls.choose(np.tile(self.value_A, (len(queries.prompt), 1)))

    def save(self, folder): ...
    def load(self, folder): ...
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of one session: a worker that gets the file's tests in two turns must not find a name in two places.
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "held_out_adapts.py").write_text(dedent(ADAPTS), encoding="utf-8")
    return folder


def test_new_arms_are_absent_from_train_and_come_last_on_test(tmp_path: Path) -> None:
    bench = load_bench(write_small_log(tmp_path / "log.parquet"))
    part = with_held_out(bench, ["codex-iuris|direct"], 10)
    known = [str(arm) for arm in part.train.outcomes.arms]
    assert NEW not in known
    assert [str(arm) for arm in part.validation.outcomes.arms] == known
    assert [str(arm) for arm in part.splits.test.arms] == [*known, NEW]
    assert part.objective == bench.objective
    column = [str(arm) for arm in bench.splits.test.arms].index(NEW)
    assert np.array_equal(part.splits.test.score_QA[:, -1], bench.splits.test.score_QA[:, column])
    assert part.labelled is not None
    few = part.labelled.outcomes
    assert len(few) == 10
    assert np.unique(few.task_Q, return_counts=True)[1].tolist() == [5, 5]
    train_keys = set(zip(bench.splits.train.task_Q, bench.splits.train.query_id_Q, strict=True))
    assert set(zip(few.task_Q, few.query_id_Q, strict=True)) < train_keys


def test_a_model_names_all_its_arms_and_nonsense_is_refused(tmp_path: Path) -> None:
    bench = load_bench(write_small_log(tmp_path / "log.parquet"))
    assert len(with_held_out(bench, ["codex-iuris"], 5).data.held_out) == 2
    for names, labelled, message in (
        (["codex"], 5, "did you mean codex-iuris"),
        (["codex-iuris", "atlas"], 5, "all arms"),
        (["atlas"], 0, "--labelled 0"),
        (["atlas"], 10**6, "train's queries"),
    ):
        with pytest.raises(RecalBenchError, match=message):
            with_held_out(bench, names, labelled)


def test_who_can_adapt_meets_the_new_arm_and_others_do_not(tmp_path: Path, plugins: Path) -> None:
    log, runs = write_small_log(tmp_path / "log.parquet"), tmp_path / "runs"
    words = ["--router", "adapts", "--router", "ridge", "--outcomes", log, "--runs", runs, "--include-path", plugins]
    words += ["--hold-out-arms", NEW, "--labelled", 20]
    result = CliRunner().invoke(cli, ["run", *map(str, words)])
    assert result.exit_code == 0, result.output
    assert f"new arms with 20 labelled queries: {NEW}" in " ".join(result.output.split())
    assert "new arm" in result.output
    for name, share in (("adapts", 1.0), ("ridge", 0.0), ("random", 0.0), ("task-best", 0.0)):
        (folder,) = runs.glob(f"{name}-*")
        decided = pd.read_parquet(folder / "decisions.parquet")
        assert decided["arm"].eq(NEW).mean() == share, name
        assert decided["cost_usd"].gt(0).all()
    (folder,) = runs.glob("oracle-*")
    assert pd.read_parquet(folder / "decisions.parquet")["arm"].eq(NEW).any()
    shown = CliRunner().invoke(cli, ["compare", str(runs), "--format", "json"])
    rows = {row["router"]: row for row in json.loads(shown.output)}
    assert rows["adapts"]["new_arm"] == 1
    assert rows["ridge"]["new_arm"] is None


def test_a_loaded_router_routes_as_it_did_in_its_run(tmp_path: Path) -> None:
    # By name the new arm stands before all others; a router that adapts has it last.
    log, runs, new = write_small_log(tmp_path / "log.parquet"), tmp_path / "runs", "atlas|direct"
    words = ["--router", "uniroute", "--router", "ridge", "--set", "shrinkage=1.0", "--outcomes", log, "--runs", runs]
    result = CliRunner().invoke(cli, ["run", *map(str, words), "--hold-out-arms", new, "--labelled", "60"])
    assert result.exit_code == 0, result.output
    test = pd.read_parquet(log).query("split == 'test'").drop_duplicates(["task", "query_id"])
    routed = {}
    for run in read_runs(runs):
        if run.record.reference or run.record.configuration.router == "random":
            continue
        decided = run.decisions().query("split == 'test'").merge(test[["task", "query_id", "prompt"]])
        advice = DeployedRouter(run).route(decided["prompt"].tolist())
        assert [str(each.arm) for each in advice] == decided["arm"].tolist()
        routed[run.record.configuration.router] = pd.DataFrame(advice).assign(task=decided["task"])
    assert set(routed) >= {"uniroute", "ridge", "knn", "best-single", "cheapest"}
    adapted = routed["uniroute"]
    assert adapted["predicted"].all()
    # What is expected of the new arm is what it does: right on geography, at 1e-4 USD.
    met = adapted[adapted["arm"].map(str) == new]
    assert set(met["task"]) == {"geo"}
    assert met["score"].gt(0.6).all()
    assert met["cost"].between(0.5e-4, 2e-4).all()
