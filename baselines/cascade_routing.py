"""Cascade routing: route, look at the answer, and call another arm where that is expected to be worth its cost.

Dekoninck, Baader, Vechev, "A Unified Approach to Routing and Cascading for LLMs" (ICML 2025, arXiv 2410.10347). Arms
that are called for one query are a supermodel. Its quality is that of its best answer, as it will be estimated once all
are there. Before each call the supermodel of the highest expected quality minus priced cost is looked for, among those
that hold the arms called already. Where it holds no other arm, the answer of the highest estimated quality is taken;
else one of its other arms is called (the cheapest), and the choice is made again. Each set of called arms has its own
estimators. The expected best is that of normal variables, centred on the present estimates, with the covariance that
their revisions had on train, the same for all queries. Routing (one call) and cascades (one order) are special cases.

What differs. The price of cost is given (alpha); the paper searches one for each step, to meet a budget. Qualities are
estimated by ridge regression on the query's encoding, and a second one on what that left over, on the answers (is one
marked, how long are they and the texts, which ones agree: one, normalised, holds the other). The authors' logistic
regressions see agreement too, and token probabilities besides, which logs lack. Revisions run from the called arms to
the supermodel, not to all arms, and are those of queries that the estimators have not seen (five folds). Clark's
formulas (1961) replace 100 samples of normal variables. Costs are predicted from the query. Arms are called in any
order; the authors' code goes from cheap to dear.

Supermodels are made of a `pool` of arms found on train, those whose best one has the highest utility in hindsight; any
other arm may be called alone. The authors combine up to 4 arms of 3 to 11; here it is 2 of 12: on the simulated pool's
validation a third adds nothing. Without texts, or with `max_depth=1`, what is left is the paper's routing: the arm of
the highest expected quality minus priced cost.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from scipy.special import ndtr

from recal_bench.encoders import fit_encoder, installed_encoders
from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.answers import Answers, crossed, folds_of
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import (
    PRIOR_COUNT,
    in_fixed_order,
    linear_inputs,
    name_order,
    targets_of,
    task_weights,
    typical_values,
)

ANSWER_PENALTY = 10.0
"""Penalty of the regressions on answers, in queries."""
CHUNK = 2048
"""Queries whose supermodels are compared at once."""
NOTHING = 1e-6
"""A difference between expected utilities that is rounding, and no reason to call an arm."""


@router("cascade-routing")
@dataclass
class CascadeRouting(Saved):
    """Calls one more arm as long as the best answer is expected to gain more by it than the call costs.

    `max_depth` bounds the calls for a query, `pool` the arms that are combined, and `penalty` is that of the ridge
    regression on the encoding, in queries.
    """

    LEARNT = ("text_encoder", "typical_C", "weight_EC", "pool_K", "has_cost", "weight_SPK", "covariance_SCMM")
    deterministic: ClassVar[bool] = True
    compares_arms: ClassVar[bool] = True
    reads_responses: ClassVar[bool] = True
    sweeps: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "max_depth": (2, 3),
        "pool": (6, 12),
        "penalty": (10.0, 30.0, 100.0),
        "encoder": installed_encoders(),
    }

    max_depth: Annotated[int, Field(ge=1, le=3)] = 2
    pool: Annotated[int, Field(ge=2, le=16)] = 12
    penalty: Annotated[float, Field(gt=0)] = 30.0
    encoder: str = "tfidf"

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        train = in_fixed_order(train)
        outcomes, targets, prompts = train.outcomes, targets_of(train), train.queries.prompt
        self.text_encoder = fit_encoder(self.encoder, prompts)
        fold_Q = folds_of(prompts)
        excess_QC = targets.value_QC - targets.typical_C
        input_QE = linear_inputs(self.text_encoder, train.queries)
        level_QC, self.weight_EC = crossed(input_QE, excess_QC, fold_Q, self.penalty)
        self.typical_C, self.has_cost = targets.typical_C, train.objective.has_cost
        self.pool_K = complements(train, self.pool)
        self.weight_SPK: dict[int, np.ndarray] = {}
        self.covariance_SCMM: dict[int, np.ndarray] = {}
        depth = min(self.max_depth, len(self.pool_K))
        if outcomes.response_QA is None or depth == 1:
            return
        excess_QK, level_QK = excess_QC[:, self.pool_K], level_QC[:, self.pool_K]
        answers, everywhere = Answers.of_all(level_QK, outcomes.response_QA[:, self.pool_K]), np.arange(len(prompts))
        revised_QK: dict[tuple[int, ...], np.ndarray] = {(): level_QK.astype(np.float32)}
        for size in range(1, depth + 1):
            weights, covariances = [], []
            for arms in subsets(range(len(self.pool_K)), size):
                known_Q = np.asarray(~np.isnan(excess_QK[:, arms]).any(axis=1))
                surprise_QK = np.where(known_Q[:, None], excess_QK - level_QK, np.nan)
                change_QK, weight_PK = crossed(answers.seen(everywhere, arms), surprise_QK, fold_Q, ANSWER_PENALTY)
                after_QK = level_QK + change_QK
                weights.append(weight_PK)
                revisions = [(after_QK - revised_QK[called])[known_Q][:, arms] for called in within(arms)]
                covariances.append([covariance(revision_QM) for revision_QM in revisions])
                if size < depth:
                    revised_QK[arms] = after_QK.astype(np.float32)
            self.weight_SPK[size], self.covariance_SCMM[size] = np.array(weights), np.array(covariances)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        level_QC = linear_inputs(self.text_encoder, queries) @ self.weight_EC
        n_arms, pool = len(calls.arms), len(self.pool_K)
        value_QC = self.typical_C + level_QC
        # A cost predicted below zero would make calls worth while for their own sake.
        cost_QA = np.maximum(value_QC[:, n_arms:], 0.0) if self.has_cost else np.zeros((len(value_QC), n_arms))
        utility_QA = value_QC[:, :n_arms] - calls.objective.alpha * cost_QA
        decisions = calls.choose(utility_QA)
        if not self.weight_SPK:
            return decisions
        answers, arm_Q = Answers(level_QC[:, self.pool_K]), decisions.arm_Q
        place_A = np.full(n_arms, -1)
        place_A[self.pool_K] = np.arange(pool)
        rows_of: dict[tuple[int, ...], list[int]] = {(): list(range(len(arm_Q)))}
        while rows_of:
            chunks = [
                (called, np.array(rows[start : start + CHUNK]))
                for called, rows in rows_of.items()
                for start in range(0, len(rows), CHUNK)
            ]
            rows_of = {}
            for called, rows in chunks:
                quality_RK = value_QC[rows][:, self.pool_K]
                # Where nothing has been called, the arm that routing chooses is what another call must improve on.
                worth_R, next_R = utility_QA[rows, arm_Q[rows]], place_A[arm_Q[rows]]
                if called:
                    weight_PK = self.weight_SPK[len(called)][subsets(range(pool), len(called)).index(called)]
                    quality_RK = quality_RK + answers.seen(rows, called) @ weight_PK
                    worth_R, next_R = quality_RK[:, called].max(axis=1), np.full(len(rows), -1)
                    arm_Q[rows] = self.pool_K[np.array(called)[np.argmax(quality_RK[:, called], axis=1)]]
                price_RK = calls.objective.alpha * cost_QA[rows][:, self.pool_K]
                price_RK[:, called] = 0.0
                price_RK[~calls.available_QA[rows][:, self.pool_K]] = np.inf
                better_R = self._better(called, quality_RK, price_RK, worth_R)
                next_R = np.where(better_R < 0, next_R, better_R)
                for row, place in zip(rows.tolist(), next_R.tolist(), strict=True):
                    if place >= 0:
                        answers.add(row, place, calls.ask(row, int(self.pool_K[place])).text, beside=called)
                        rows_of.setdefault(tuple(sorted((*called, place))), []).append(row)
        return Decisions(arm_Q)

    def _better(
        self, called: tuple[int, ...], quality_RK: np.ndarray, price_RK: np.ndarray, worth_R: np.ndarray
    ) -> np.ndarray:
        """The cheapest new arm of the supermodel that is worth most, if more than `worth_R`; else -1."""
        next_R, rows = np.full(len(worth_R), -1), np.arange(len(worth_R))
        for size in range(max(2, len(called) + 1), len(self.weight_SPK) + 1):
            numbered = enumerate(subsets(range(len(self.pool_K)), size))
            supermodels = [(number, arms) for number, arms in numbered if set(called) <= set(arms)]
            arm_NM = np.array([arms for _, arms in supermodels])
            covariance_NMM = np.stack(
                [self.covariance_SCMM[size][number, within(arms).index(called)] for number, arms in supermodels]
            )
            worth_RN = expected_best(quality_RK[:, arm_NM], covariance_NMM) - price_RK[:, arm_NM].sum(axis=2)
            best_R = np.argmax(np.round(worth_RN, 12), axis=1)
            arm_RM, better_R = arm_NM[best_R], worth_RN[rows, best_R] > worth_R + NOTHING
            price_RM = np.where(np.isin(arm_RM, called), np.inf, price_RK[rows[:, None], arm_RM])
            next_R = np.where(better_R, arm_RM[rows, np.argmin(price_RM, axis=1)], next_R)
            worth_R = np.where(better_R, worth_RN[rows, best_R], worth_R)
        return next_R


def complements(train: Train, size: int) -> np.ndarray:
    """The arms whose best one has the highest macro utility in hindsight, found one by one; in the order of names."""
    weight_Q = task_weights(train.outcomes.task_Q)
    level_A = typical_values(train.utility_QA, train.outcomes, np.min, PRIOR_COUNT)
    utility_QA = np.where(np.isnan(train.utility_QA), level_A, train.utility_QA)
    by_name = name_order(train.outcomes.arms)
    best_Q = np.full(len(utility_QA), utility_QA.min())
    chosen: list[int] = []
    while len(chosen) < min(size, len(by_name)):
        left = [arm for arm in by_name if arm not in chosen]
        value_A = np.round(weight_Q @ np.maximum(best_Q[:, None], utility_QA[:, left]), 9)
        chosen.append(left[int(np.argmax(value_A))])
        best_Q = np.maximum(best_Q, utility_QA[:, chosen[-1]])
    return np.array([arm for arm in by_name if arm in chosen])


def expected_best(mean_RNM: np.ndarray, covariance_NMM: np.ndarray) -> np.ndarray:
    """The expected largest of normal variables, one after another by the formulas of Clark (1961); exact for two."""
    best_RN, variance_RN = mean_RNM[..., 0], covariance_NMM[:, 0, 0]
    with_RNM = np.broadcast_to(covariance_NMM[:, 0], mean_RNM.shape)
    for arm in range(1, mean_RNM.shape[2]):
        mean_RN, own_N = mean_RNM[..., arm], covariance_NMM[:, arm, arm]
        spread_RN = np.sqrt(np.maximum(variance_RN + own_N - 2 * with_RNM[..., arm], 1e-24))
        ahead_RN = np.clip((best_RN - mean_RN) / spread_RN, -40.0, 40.0)
        share_RN, density_RN = ndtr(ahead_RN), np.exp(-(ahead_RN**2) / 2) / np.sqrt(2 * np.pi)
        largest_RN = best_RN * share_RN + mean_RN * (1 - share_RN) + spread_RN * density_RN
        square_RN = (best_RN**2 + variance_RN) * share_RN + (mean_RN**2 + own_N) * (1 - share_RN)
        square_RN = square_RN + (best_RN + mean_RN) * spread_RN * density_RN
        with_RNM = with_RNM * share_RN[..., None] + covariance_NMM[:, arm] * (1 - share_RN[..., None])
        best_RN, variance_RN = largest_RN, np.maximum(square_RN - largest_RN**2, 0.0)
    return best_RN


def covariance(revision_QM: np.ndarray) -> np.ndarray:
    """Second moments of revisions; smaller where few queries tell of them."""
    return np.asarray(revision_QM.T @ revision_QM / (len(revision_QM) + PRIOR_COUNT))


@lru_cache(maxsize=1000)
def subsets(arms: Sequence[int], size: int) -> list[tuple[int, ...]]:
    return list(combinations(arms, size))


@lru_cache(maxsize=1000)
def within(arms: tuple[int, ...]) -> list[tuple[int, ...]]:
    """What may have been called of some arms before the last one is: all subsets but the arms themselves."""
    return [called for size in range(len(arms)) for called in combinations(arms, size)]
