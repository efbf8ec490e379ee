"""Arms that are asked the policy's own queries: over real HTTP with journal and budget, and on the embedded pool."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")
pytest.importorskip("lm_eval", reason="lm-eval is not installed: it comes with the extra collect")

import preset_training as preset
from live_endpoint import LiveArms, live_arms
from small_policy import policy

from recal_bench import read_runs
from recal_bench.calibration.rewards import Components, Terms
from recal_bench.cli import cli
from recal_bench.errors import RecalBenchError, SettingsError
from recal_bench.language_model.live import LivePool, live_pools
from recal_bench.language_model.pool import Call, LoggedPool
from recal_bench.language_model.prompting import describe, system_prompt
from recal_bench.language_model.rollouts import Rollout, TrainingRollouts
from recal_bench.language_model.router import LanguageModelRouter
from recal_bench.outcomes import Objective
from recal_bench.routers import Queries, Train
from recal_bench.simulation import embedded_outcomes

# TRL, transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")

SPLITS = tuple(preset.small_split(rows, seed, tasks=preset.LIVE_TASKS) for rows, seed in ((24, 0), (9, 1)))
COT, DIRECT, SMALL = range(3)
"""The arms: they know the answers to questions on rivers, theorems and songs (rows 0, 1, 2 of any three)."""


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RECAL_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def arms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveArms]:
    with live_arms(tmp_path_factory.mktemp("arms")) as found:
        yield found


def pools(live: object, max_usd: float | None = 1.0, splits: tuple[Train, ...] = SPLITS) -> tuple[LivePool, LivePool]:
    fallback_A = np.arange(len(splits[0].outcomes.arms))
    train, validation = ((LoggedPool.of(split, fallback_A, None, 1.0), split) for split in splits)
    return live_pools(str(live), train, validation, max_usd)


def trajectory(row: int, *calls: tuple[int, str | None], answer: str | None = None, **rest: Any) -> Rollout:
    called, queries = [arm for arm, _ in calls], [query for _, query in calls]
    return Rollout(row, [], calls=called, queries=queries, answer=answer, **rest)


def written(split: Train, name: str) -> pd.DataFrame:
    """A split as an outcomes file has it."""
    outcomes, prefix = split.outcomes, name[0]
    return pd.DataFrame(
        [
            {
                "task": outcomes.task_Q[row], "query_id": f"{prefix}{row}", "prompt": prompt, "split": name,
                "model": arm.model, "strategy": arm.strategy, "score": outcomes.score_QA[row, number],
                "cost_usd": outcomes.cost_QA[row, number], "response": "so",
            }
            for row, prompt in enumerate(split.queries.prompt)
            for number, arm in enumerate(outcomes.arms)
        ]
    )  # fmt: skip


# Over HTTP


@pytest.fixture(scope="module")
def asked(arms: LiveArms) -> tuple[LivePool, list[Rollout]]:
    """Trajectories whose calls were answered: right by a query of their own, wrong, right by an own answer, malformed;
    the last one calls twice what it had called, or what another had."""
    pool, _ = pools(arms.pool)
    rollouts = [
        trajectory(0, (DIRECT, "a theorem?"), (COT, "which river is meant?")),
        trajectory(0, (SMALL, "which river is meant?")),
        trajectory(1, (SMALL, None), answer="the proof"),
        trajectory(2, (SMALL, None), answer="A song."),
        trajectory(1, (DIRECT, "a theorem?"), broken=("no-route",)),
        trajectory(2, (SMALL, None), (SMALL, None), (DIRECT, "a theorem?"), (SMALL, None)),
    ]
    assert pool.answers([each for rollout in rollouts for each in rollout.asked])[0] == "So I think.\nAnswer: a proof"
    return pool, rollouts


def test_the_query_is_what_the_arm_is_sent_and_the_question_where_there_is_none(
    arms: LiveArms, asked: tuple[LivePool, list[Rollout]]
) -> None:
    sent = {(each.model, each.message.partition("\n\n")[2]) for each in arms.requests}
    assert {("large", "a theorem?"), ("large", "which river is meant?"), ("small", "which river is meant?")} < sent
    assert {("small", SPLITS[0].queries.prompt[row]) for row in (1, 2)} < sent
    assert len(sent) == len(arms.requests)


def test_what_stands_is_scored_by_the_tasks_verifier_against_the_reference(
    asked: tuple[LivePool, list[Rollout]],
) -> None:
    pool, rollouts = asked
    results = pool.results(rollouts)
    # Exact match is of articles and capitals no more than of points.
    assert results.score_N.tolist() == [1, 0, 1, 1, 0, 1]
    assert results.known_N.tolist() == [True, True, True, True, False, True]
    settled = pool.results(rollouts, settled=True)
    row, arm = 1, pool.fallback(1)
    assert settled.known_N.all()
    assert settled.score_N[4] == SPLITS[0].outcomes.score_QA[row, arm]
    extra = (settled.cost_N - results.cost_N) * SPLITS[0].objective.cost_ref
    assert extra == pytest.approx([0, 0, 0, 0, SPLITS[0].outcomes.cost_QA[row, arm], 0])
    assert [pool.chosen(each) for each in rollouts] == [COT, SMALL, SMALL, SMALL, arm, SMALL]


def test_the_bill_is_the_sum_of_the_calls(arms: LiveArms, asked: tuple[LivePool, list[Rollout]]) -> None:
    """Of a trajectory each call once, by the price book; of all of them together what the endpoint has answered."""
    pool, rollouts = asked
    cost_ref = SPLITS[0].objective.cost_ref
    usd_N = pool.results(rollouts).cost_N * cost_ref
    alone = {}
    for call in dict.fromkeys(call for rollout in rollouts for call in rollout.asked):
        one = trajectory(call.row, (call.arm, call.query))
        prompt = call.query or SPLITS[0].queries.prompt[call.row]
        alone[call.arm, prompt] = float(pool.results([one]).cost_N[0]) * cost_ref
    for usd, rollout in zip(usd_N, rollouts, strict=True):
        every = {(arm, query or SPLITS[0].queries.prompt[row]) for row, arm, query in rollout.asked}
        assert usd == pytest.approx(sum(alone[each] for each in every), abs=1e-12)
    assert sum(alone.values()) == pytest.approx(arms.usd(), abs=1e-12)
    assert arms.usd() > 0


def test_the_reward_is_of_what_was_answered_and_its_bill(asked: tuple[LivePool, list[Rollout]]) -> None:
    pool, rollouts = asked
    reward = Components(Terms(0.2, True))
    training = TrainingRollouts(policy(), pool, reward, [], 0.0, False, None)
    reward_NK = training.judge(rollouts).numpy()
    results = pool.results(rollouts)
    well_formed_N = np.array([1, 1, 1, 1, 0, 1])
    assert reward_NK[:, 0].tolist() == well_formed_N.tolist()
    assert reward_NK[:, 1].tolist() == results.score_N.tolist()
    assert reward_NK[:, 2] == pytest.approx(-well_formed_N * results.cost_N, rel=1e-6)


def test_another_process_finds_what_was_paid_for(arms: LiveArms, asked: tuple[LivePool, list[Rollout]]) -> None:
    before = len(arms.requests)
    pool, rollouts = asked
    again, _ = pools(arms.pool)
    assert again.results(rollouts).cost_N.tolist() == pool.results(rollouts).cost_N.tolist()
    assert len(arms.requests) == before


def test_a_spent_budget_is_told_in_one_line_and_a_larger_one_goes_on(arms: LiveArms, tmp_path: Path) -> None:
    live = tmp_path / "small.yaml"
    live.write_text(arms.pool.read_text())
    calls, before = [Call(row, SMALL, f"the {row}th song?") for row in range(8)], len(arms.requests)
    with pytest.raises(
        RecalBenchError, match=r"stopped before --max-usd 0.00127 \(.* USD are spent.* larger one goes"
    ) as e:
        # Before it is sent, a request may cost as much as its longest reply: 512 tokens, and a byte a token of prompt.
        pools(live, max_usd=0.00127)[0].answers(calls)
    assert "\n" not in str(e.value)
    paid = len(arms.requests) - before
    assert 0 < paid < len(calls)
    assert all(pools(live, max_usd=1.0)[0].answers(calls))
    assert len(arms.requests) - before == len(calls)


def test_a_training_that_a_budget_stops_goes_on_from_its_checkpoint_with_a_larger_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("recal_bench.language_model.fitting.CHECKPOINT_EVERY", 1)
    test = preset.small_split(12, 2, tasks=preset.LIVE_TASKS)
    parts = zip((*SPLITS, test), ("train", "validation", "test"), strict=True)
    pd.concat([written(*part) for part in parts]).to_parquet(tmp_path / "log.parquet", index=False)
    settings = {**preset.SMALL, "rounds": 2, "live": tmp_path / "pool.yaml"}
    words = ["train", "--policy", "tiny", "--outcomes", tmp_path / "log.parquet", "--runs", tmp_path / "runs"]
    words += [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    with live_arms(tmp_path) as found:
        nothing, little, enough = (
            CliRunner().invoke(cli, [*map(str, words), *more])
            for more in ([], ["--max-usd", "0.0078"], ["--max-usd", "1"])
        )
    assert "asks endpoints that may bill: say what may be spent, train --max-usd USD" in nothing.output
    assert "stopped before --max-usd 0.0078" in little.output
    assert [each.exit_code for each in (nothing, little, enough)] == [2, 2, 0], enough.output
    assert len(set(found.asked())) == len(found.requests)
    run = next(each for each in read_runs(tmp_path / "runs") if each.record.configuration.router == "recal-lm")
    lines = [json.loads(line) for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(7))
    # Of a fit that went on nobody knows how long it took.
    assert run.record.fit_seconds is None


# On the embedded pool


@pytest.fixture(scope="module")
def embedded() -> tuple[LivePool, Train]:
    """The simulated arms for the train questions of two tasks."""
    outcomes = embedded_outcomes(0, 120, 1, 1).of_split("train")
    outcomes = outcomes.take(np.isin(outcomes.task_Q, ("popqa", "2wiki")))
    queries = Queries(tuple(outcomes.query_id_Q), tuple(outcomes.prompt_Q))
    split = Train(queries, outcomes, Objective.from_train(outcomes.score_QA, outcomes.cost_QA))
    return pools("embedded", None, (split, split))[0], split


def test_the_question_itself_gets_the_simulated_outcome(embedded: tuple[LivePool, Train]) -> None:
    pool, split = embedded
    rows = [(row, arm) for row in range(0, 240, 30) for arm in range(24)]
    results = pool.results([trajectory(row, (arm, None)) for row, arm in rows])
    assert results.score_N.tolist() == [split.outcomes.score_QA[each] for each in rows]
    usd = np.array([split.outcomes.cost_QA[each] for each in rows])
    assert results.cost_N * split.objective.cost_ref == pytest.approx(usd, rel=1e-12)


def test_a_hop_of_a_question_is_answered_and_what_is_no_query_of_the_world_is_not(
    embedded: tuple[LivePool, Train],
) -> None:
    """Whoever asks one hop after the other finds the answers of questions of two hops, where the models know them."""
    pool, split = embedded
    asked = re.compile(r"What is the (birthplace|birth year) of the (director|author|vocalist|victor) of (.*)\?")
    best, solved, rows = pool.logged.arms[1], 0, 0
    for row, prompt in enumerate(split.queries.prompt):
        if found := asked.fullmatch(prompt):
            rows += 1
            (first,) = pool.ask([(best, f"Who is the {found[2]} of {found[3]}?")])
            (second,) = pool.ask([(best, f"the {found[1]} of {first.answer}")])
            solved += pool.verify([(row, second.answer)])[0]
    assert str(best) == "brelune-70b|cot"
    assert rows > 5
    assert solved > 1
    text, answer, usd, _ = pool.ask([(pool.logged.arms[0], "what is love?")])[0]
    assert (text, answer) == ("It is not clear what is asked.",) * 2
    assert usd > 0


# What cannot be asked


def test_what_cannot_be_asked_is_told_in_one_line(arms: LiveArms, tmp_path: Path) -> None:
    text = arms.pool.read_text()
    train, validation = SPLITS
    of_others = train._replace(outcomes=replace(train.outcomes, prompt_Q=train.outcomes.prompt_Q + "?"))
    of_no_task = train._replace(outcomes=replace(train.outcomes, task_Q=np.full(24, "odd", dtype=object)))
    for live, splits, message in (
        (text.replace("small:", "tiny:"), SPLITS, "pool p lacks 1 of the 3 arms of the outcomes: small|direct: add"),
        (text + "simulated: true\n", SPLITS, "is simulated, and the outcomes are not"),
        (
            text.replace("api_key_env: null", "api_key_env: NO_SUCH_KEY"),
            SPLITS,
            "set the environment variable NO_SUCH_",
        ),
        (text, (of_others, validation), "24 of 24 queries have no reference answer among the questions of"),
        (text, (of_no_task, validation), "are for the shipped tasks, and odd is not one"),
    ):
        path = tmp_path / "pool.yaml"
        path.write_text(live)
        with pytest.raises(RecalBenchError, match=re.escape(message)) as told:
            pools(path, 1.0, splits)
        assert "\n" not in str(told.value)
    with pytest.raises(SettingsError, match="live=embedded is simulated, and the outcomes are not"):
        pools("embedded")


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"decode": "arms", "trust": 1.0}, "decode=arms writes no query"), ({}, "it needs trust=1")],
)
def test_settings_that_do_not_go_with_live_arms_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        LanguageModelRouter(live="embedded", **settings)


def test_the_policy_is_told_that_its_own_answer_stands() -> None:
    told = [system_prompt(SPLITS[0].outcomes.arms, describe(), 2, live=live) for live in (False, True)]
    assert ["The user gets the reply to your last call" in each for each in told] == [True, False]
    assert "write <answer> a short phrase </answer> and stop: that is what the user gets." in told[1]
