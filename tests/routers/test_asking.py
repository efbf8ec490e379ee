"""Routers that call arms before they decide and pay for each call, and routers that see one outcome a query."""

from pathlib import Path
from textwrap import dedent

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from small_log import small_log

from recal_bench.cli import cli
from recal_bench.simulation import embedded_outcomes, embedded_questions, embedded_responses
from recal_bench.simulation.pool import SimulatedPool

CASCADE = """
import json
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from recal_bench.routers import Decisions, router

@router("ask-cheap-first")
@dataclass
class AskCheapFirst:
    '''Asks the cheapest arm, and the dearest where the first says that it does not know.'''
    deterministic: ClassVar[bool] = True
    reads_responses: ClassVar[bool] = True

    def fit(self, train, validation, context):
        if train.outcomes.response_QA is None:
            return
        assert train.outcomes.response_QA.shape == train.outcomes.score_QA.shape
        assert validation.outcomes.response_QA[0, 0] in ("sure", "no idea")

    def route(self, queries, calls):
        cheap, dear = int(np.argmin(calls.mean_cost_A)), int(np.argmax(calls.mean_cost_A))
        arm_Q = np.full(len(queries.prompt), cheap)
        for row in range(len(arm_Q)):
            reply = calls.ask(row, cheap)
            assert calls.ask(row, cheap) == reply, "asked twice, paid once"
            if reply.text == "no idea":
                arm_Q[row] = dear
        return Decisions(arm_Q)

    def save(self, folder): ...
    def load(self, folder): ...
"""

BANDIT = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from recal_bench.routers import router
from recal_bench.toolbox.targets import in_fixed_order

@router("explore-then-stay")
@dataclass
class ExploreThenStay:
    '''Asks each arm in turn, then stays with the best.'''
    deterministic: ClassVar[bool] = True
    partial_feedback: ClassVar[bool] = True
    greedy: bool = False

    def fit(self, train, validation, context):
        assert np.isnan(train.outcomes.score_QA).all() and np.isnan(train.outcomes.cost_QA).all()
        assert np.isnan(validation.outcomes.score_QA).all()
        train = in_fixed_order(train)
        n_arms = len(train.outcomes.arms)
        seen = [[] for _ in range(n_arms)]
        for row in range(len(train.queries.prompt)):
            arm = int(np.flatnonzero(train.feedback.available_QA[row])[row % n_arms])
            outcome = train.feedback.ask(row, arm)
            assert outcome.utility <= outcome.score
            seen[arm].append(outcome.utility)
            if self.greedy:
                train.feedback.ask(row, (arm + 1) % n_arms)
        self.value_A = np.array([np.mean(each) for each in seen])

    def route(self, queries, calls):
        return calls.choose(np.tile(self.value_A, (len(queries.prompt), 1)))

    def save(self, folder): ...
    def load(self, folder): ...
"""


@pytest.fixture(scope="session")
def plugins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Of one session: a worker that gets the file's tests in two turns must not find a name in two places.
    folder = tmp_path_factory.mktemp("plugins")
    (folder / "asking_cascade.py").write_text(dedent(CASCADE), encoding="utf-8")
    (folder / "asking_bandit.py").write_text(dedent(BANDIT), encoding="utf-8")
    return folder


def log_with_texts(path: Path) -> pd.DataFrame:
    frame = small_log()
    frame["response"] = np.where(frame["score"] > 0, "sure", "no idea")
    frame.to_parquet(path, index=False)
    return frame


def run(tmp_path: Path, plugins: Path, router: str, *words: str) -> pd.DataFrame:
    options = [
        "--outcomes",
        str(tmp_path / "log.parquet"),
        "--runs",
        str(tmp_path / "runs"),
        "--include-path",
        str(plugins),
    ]
    result = CliRunner().invoke(cli, ["run", "--router", router, *options, *words])
    if result.exit_code:
        raise AssertionError(result.output) from result.exception
    (folder,) = (tmp_path / "runs").glob(f"{router}-*")
    return pd.read_parquet(folder / "decisions.parquet")


def test_a_cascade_reads_replies_and_pays_for_every_call(tmp_path: Path, plugins: Path) -> None:
    log = log_with_texts(tmp_path / "log.parquet")
    decided = run(tmp_path, plugins, "ask-cheap-first").set_index("query_id")
    of = {name: part.set_index("query_id") for name, part in log[log["split"] == "test"].groupby(["model", "strategy"])}
    cheap, dear = of["atlas", "direct"].loc[decided.index], of["codex-iuris", "cot"].loc[decided.index]
    sure = cheap["score"] > 0
    assert 0 < sure.sum() < len(sure)
    assert decided["calls"].tolist() == np.where(sure, 1, 2).tolist()
    assert decided["score"].to_numpy() == pytest.approx(np.where(sure, cheap["score"], dear["score"]))
    paid = cheap["cost_usd"] + np.where(sure, 0.0, dear["cost_usd"])
    assert decided["cost_usd"].to_numpy() == pytest.approx(paid)


def test_without_texts_a_reply_is_its_cost_alone(tmp_path: Path, plugins: Path) -> None:
    small_log().to_parquet(tmp_path / "log.parquet", index=False)
    decided = run(tmp_path, plugins, "ask-cheap-first")
    assert decided["calls"].eq(1).all()


def test_a_bandit_learns_from_one_outcome_a_query_and_cannot_see_a_second(tmp_path: Path, plugins: Path) -> None:
    log_with_texts(tmp_path / "log.parquet")
    assert run(tmp_path, plugins, "explore-then-stay")["calls"].eq(1).all()
    with pytest.raises(AssertionError, match="asked two arms about one query"):
        run(tmp_path, plugins, "explore-then-stay", "--set", "greedy=true")


def test_a_cascade_is_tuned_by_what_it_pays(tmp_path: Path, plugins: Path) -> None:
    log = log_with_texts(tmp_path / "log.parquet")
    options = ["--outcomes", str(tmp_path / "log.parquet"), "--include-path", str(plugins), "--trials", "1"]
    result = CliRunner().invoke(
        cli, ["tune", "--router", "ask-cheap-first", *options, "--out", str(tmp_path / "t.json")]
    )
    assert result.exit_code == 0, result.output
    validation = log[log["split"] == "validation"]
    cheap = validation[validation["model"] == "atlas"].set_index("query_id")
    dear = validation[validation["strategy"] == "cot"].set_index("query_id")
    sure = cheap["score"] > 0
    paid = cheap["cost_usd"] + np.where(sure, 0.0, dear["cost_usd"])
    cost_ref = log[(log["split"] == "train") & (log["strategy"] == "cot")]["cost_usd"].mean()
    utility = np.where(sure, cheap["score"], dear["score"]) - 0.2 * paid / cost_ref
    macro = utility.groupby(cheap["task"]).mean().mean()
    assert f"ask-cheap-first: {macro:.4f} on validation" in result.output


def test_the_embedded_pool_has_its_texts_in_the_order_of_its_outcomes() -> None:
    sizes = (6, 2, 3)
    response_QA = embedded_responses(0, *sizes)
    questions, outcomes, pool = embedded_questions(0, *sizes), embedded_outcomes(0, *sizes), SimulatedPool(0)
    assert response_QA.shape == outcomes.score_QA.shape
    for row in (0, 11, len(questions) - 1):
        assert questions[row].query_id == outcomes.query_id_Q[row]
        for index, arm in enumerate(outcomes.arms):
            assert response_QA[row, index] == pool.answer(questions[row], arm).text
