"""Arms that are asked while the policy trains: its own queries, and answers that the task's verifier scores.

`LivePool` has the functions of `pool.LoggedPool`. Who answers is one of two: the embedded pool's simulated models in
this process, or the endpoints of a pool file through the collector's client (journal, budget, retries, prices).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.arrays import BoolQA, IntQ
from recal_bench.collection.asked import OPENAI, Answered, Desk
from recal_bench.collection.requests import Arms
from recal_bench.errors import EndpointError, SettingsError
from recal_bench.language_model.pool import Call, LoggedPool, Results
from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Pool
from recal_bench.scoring import exact_match, extract_answer
from recal_bench.wording import some_of

if TYPE_CHECKING:
    from recal_bench.collection.verifying import Verify
    from recal_bench.language_model.rollouts import Rollout
    from recal_bench.routers import Train

EMBEDDED = {"embedded": "standard", "embedded-efforts": "efforts"}
"""Shipped pools that are answered in this process, with the arms of their world."""
_LISTED = 5


AskArms = Callable[[Sequence[tuple[Arm, str]]], list[Answered | None]]
"""Arms and queries to what they said; None where an arm refuses a query."""


@dataclass
class LivePool:
    """The arms, live, for the queries of one split. `logged` are its outcomes: of what a malformed trajectory falls
    back to, and the order of the arms.

    The same call costs a trajectory once, and the reward counts it in full whether or not it had been paid for before.
    """

    logged: LoggedPool
    prompt_Q: Sequence[str]
    ask: AskArms
    verify: Verify
    objective: Objective

    def __post_init__(self) -> None:
        self.dataset_Q: IntQ = self.logged.dataset_Q
        self.available_QA: BoolQA = np.ones_like(self.logged.available_QA)

    def fallback(self, row: int) -> int:
        """The best arm on train that has an outcome for a query."""
        return self.logged.fallback(row)

    def chosen(self, rollout: Rollout) -> int:
        """The arm that was called last, or the fallback of a malformed trajectory."""
        return rollout.calls[-1] if rollout.well_formed else self.fallback(rollout.row)

    def answers(self, calls: Sequence[Call]) -> list[str | None]:
        """What the arms say to the queries; all are asked together."""
        return [None if said is None else said.text for said in self._ask(calls)]

    def results(self, rollouts: Sequence[Rollout], settled: bool = False) -> Results:
        """The score of the answer that stands, and what the calls cost.

        What stands is the policy's own answer, or else the reply to its last call. With `settled` a malformed
        trajectory is answered, and paid for, by the logged outcome of the fallback.
        """
        asked = [list(dict.fromkeys(each.asked)) for each in rollouts]
        every = list(dict.fromkeys(call for calls in asked for call in calls))
        said = dict(zip(every, self._ask(every), strict=True))
        cost_N = np.array([sum(self._cost(said[call]) for call in calls) for calls in asked], dtype=float)
        stands: dict[int, str] = {}
        for number, rollout in enumerate(rollouts):
            if rollout.well_formed:
                last = said[rollout.asked[-1]]
                answer = rollout.answer if last is None or rollout.answer is not None else last.answer
                if answer is not None:
                    stands[number] = answer
        scores = self.verify([(rollouts[number].row, answer) for number, answer in stands.items()])
        score_N, known_N = np.zeros(len(rollouts)), np.zeros(len(rollouts), dtype=bool)
        score_N[list(stands)], known_N[list(stands)] = scores, True
        for number, rollout in enumerate(rollouts):
            if known_N[number] or not settled:
                continue
            row = rollout.row
            arm = self.fallback(row)
            score_N[number], known_N[number] = self.logged.score_QA[row, arm], True
            cost_N[number] += self.logged.cost_QA[row, arm]
        return Results(score_N, cost_N, known_N)

    def _ask(self, calls: Sequence[Call]) -> list[Answered | None]:
        arms = self.logged.arms
        return self.ask([(arms[arm], self.prompt_Q[row] if query is None else query) for row, arm, query in calls])

    def _cost(self, said: Answered | None) -> float:
        """In units of `cost_ref`, with what its latency is charged; 0 where the outcomes hold no cost."""
        if said is None or self.objective.cost_ref is None:
            return 0.0
        usd = self.objective.charged(np.array(said.usd), np.array(said.latency_s))
        return float(usd) / self.objective.cost_ref


def live_pools(
    live: str, train: tuple[LoggedPool, Train], validation: tuple[LoggedPool, Train], max_usd: float | None
) -> tuple[LivePool, LivePool]:
    """A live pool for each of two splits, by a pool file or a shipped one's name. Nothing is asked yet.

    Raises RecalBenchError where a pool cannot be asked for these outcomes: it lacks an arm, a key or a price, there is
    no budget for what may be billed, or a query's task has no verifier, or the query no reference answer.
    """
    splits = (train, validation)
    pool, outcomes = read_pool(Path(live)), [split.outcomes for _, split in splits]
    if pool.simulated and not all(each.simulated for each in outcomes):
        raise SettingsError(f"live={live} is simulated, and the outcomes are not: name the pool that they come from")
    lacking = [str(arm) for arm in outcomes[0].arms if arm not in set(Arms(pool, pool.models, pool.strategies, OPENAI))]
    if lacking:
        raise SettingsError(
            f"live={live}: pool {pool.pool} lacks {len(lacking)} of the {len(outcomes[0].arms)} arms of the outcomes: "
            f"{some_of(lacking, _LISTED)}: add their models, with prices, and strategies to the pool file"
        )
    if live in EMBEDDED:
        ask, verifiers_of = _simulated(live, outcomes)
    else:
        if max_usd is None and not pool.simulated:
            raise SettingsError(f"live={live} asks endpoints that may bill: say what may be spent, train --max-usd USD")
        ask, verifiers_of = _endpoints(live, pool, outcomes, max_usd)
    first, second = (
        LivePool(logged, split.queries.prompt, ask, verify, split.objective)
        for (logged, split), verify in zip(splits, verifiers_of, strict=True)
    )
    return first, second


def _simulated(live: str, outcomes: Sequence[Outcomes]) -> tuple[AskArms, list[Verify]]:
    """The embedded pool's simulated models, and exact match with its questions' gold answers."""
    from recal_bench.simulation import questions_by_prompt
    from recal_bench.simulation.subqueries import Respondent

    # The name of an embedded world's outcomes is all that tells its seed.
    found = re.search(r"^embedded.*-seed(\d+)", outcomes[0].name)
    seed = int(found[1]) if found else 0
    questions, respondent = questions_by_prompt(seed), Respondent(seed, EMBEDDED[live])
    usd_per_token = {arm: float(usd) for arm, usd in zip(respondent.pool.arms, respondent.usd_per_token_A, strict=True)}
    strategies = read_pool(Path(live)).strategies
    reply = lru_cache(maxsize=50_000)(respondent.reply)

    def ask(asked: Sequence[tuple[Arm, str]]) -> list[Answered | None]:
        said = [reply(arm, query) for arm, query in asked]
        return [
            Answered(
                each.text,
                strategies[arm.strategy].answer(each.text),
                (each.prompt_tokens + each.completion_tokens) * usd_per_token[arm],
                float("nan"),
            )
            for (arm, _), each in zip(asked, said, strict=True)
        ]

    def verifier(of: Outcomes) -> Verify:
        unknown = [
            str(query) for query, prompt in zip(of.query_id_Q, of.prompt_Q, strict=True) if prompt not in questions
        ]
        if unknown:
            raise SettingsError(
                f"live={live}: {len(unknown):,} of {len(of):,} queries are not questions of the embedded world {seed}, "
                f"so they have no reference answer ({some_of(unknown, _LISTED)}): name the pool that they come from"
            )
        gold_Q = [questions[prompt].gold for prompt in of.prompt_Q]
        return lambda answers: [exact_match(extract_answer(answer), gold_Q[row]) for row, answer in answers]

    return ask, [verifier(each) for each in outcomes]


def _endpoints(
    live: str, pool: Pool, outcomes: Sequence[Outcomes], max_usd: float | None
) -> tuple[AskArms, list[Verify]]:
    """The endpoints of a pool file, through the collector's client, and the verifiers of the collector's tasks."""
    try:
        from recal_bench.collection.verifying import verifiers
    except ModuleNotFoundError as error:
        raise EndpointError(
            f"live={live} needs {error.name}, of recal-bench[collect]: pip install '.[collect]' in a checkout"
        ) from error
    desk = Desk(pool, outcomes[0].arms, Path(live).with_suffix(".journal"), max_usd, f"live={live}")
    return desk.ask, verifiers(pool.questions, outcomes)
