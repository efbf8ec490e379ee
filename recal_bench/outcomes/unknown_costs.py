"""Costs that are known only in part: the rule for the others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from recal_bench.arrays import BoolQA, FloatQA
from recal_bench.errors import OutcomesError, SettingsError, near_miss
from recal_bench.outcomes.dense import Outcomes
from recal_bench.outcomes.objective import mean_over_observed
from recal_bench.wording import counted, share, some_of

RULES = ("error", "drop", "estimate")
SMALL_SHARE = 0.1
"""Up to this share of unknown costs a file is taken to be meant with costs: to leave them out is then no answer."""
TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens")
_LEAST_PRICED = 10
"""Outcomes of known cost from which an arm's price of a token is told."""

Pricing = Callable[[str, int, int, int, int], float | None]
"""Model, prompt, completion, reasoning and cached tokens to USD; None where the model has no price."""


@dataclass(frozen=True)
class UnknownCosts:
    """What is done where some costs are known and others are not.

    `error` refuses such outcomes. `drop` leaves out the queries that hold one (with `--missing restrict`: those
    outcomes alone). `estimate` takes a price for the tokens (of `pricing`, a pool's price book, else of the arm's known
    train costs), else the arm's mean train cost. None is `error` where a small share is unknown; where it is a large
    one the outcomes stay as they are, and routers optimise the score. Raises SettingsError on another rule.
    """

    rule: str | None = None
    pricing: Pricing | None = None
    price_book: str = ""

    def __post_init__(self) -> None:
        if self.rule not in (None, *RULES):
            raise SettingsError(
                f"--unknown-cost {self.rule}{near_miss(str(self.rule), RULES)}: it is one of {', '.join(RULES)}"
            )
        if self.pricing is not None and self.rule != "estimate":
            raise SettingsError("--prices is for --unknown-cost estimate: give both")

    @property
    def recorded(self) -> str:
        """The rule as records keep it: what decides, beside the outcomes."""
        return f"{self.rule or 'error'}{f' by price book {self.price_book}' if self.price_book else ''}"

    def settle(self, outcomes: Outcomes, missing: str, notes: list[str]) -> Outcomes:
        """The rule applied to outcomes with their final splits. Raises OutcomesError where it refuses or cannot."""
        unknown_QA = outcomes.observed_QA & np.isnan(outcomes.cost_QA)
        n, total = int(unknown_QA.sum()), int(outcomes.observed_QA.sum())
        if not n or (n == total and self.pricing is None):
            return outcomes
        if self.rule is None and n > SMALL_SHARE * total:
            return outcomes
        if self.rule in (None, "error"):
            raise OutcomesError(
                f"{outcomes.name}: the cost of {n:,} of {total:,} outcomes ({share(n, total)}) is unknown, "
                f"{_worst(outcomes, unknown_QA)}: choose --unknown-cost drop (their queries are left out) or "
                "--unknown-cost estimate (from token columns with --prices POOL.yaml, or from the arm's other costs)"
                + (", or --zero-cost free" if any("--zero-cost free" in note for note in outcomes.notes) else "")
            )
        if self.rule == "drop":
            return _dropped(outcomes, unknown_QA, missing, notes)
        return self._estimated(outcomes, unknown_QA, notes)

    def _estimated(self, outcomes: Outcomes, unknown_QA: BoolQA, notes: list[str]) -> Outcomes:
        left_QA, cost_QA = unknown_QA.copy(), outcomes.cost_QA.copy()
        ways = []
        for what, guess_QA in (
            ("by their tokens and the price book", self._priced(outcomes, unknown_QA)),
            ("by their tokens at the arm's own rate on train", _at_own_rate(outcomes)),
            ("as the arm's mean train cost", _mean_cost(outcomes)),
        ):
            found_QA = left_QA & ~np.isnan(guess_QA)
            cost_QA = np.where(found_QA, guess_QA, cost_QA)
            left_QA &= ~found_QA
            ways += [f"{int(found_QA.sum()):,} {what}"] if found_QA.any() else []
        if left_QA.any():
            raise OutcomesError(
                f"{outcomes.name}: --unknown-cost estimate has nothing to go by for {int(left_QA.sum()):,} outcomes, "
                f"{_worst(outcomes, left_QA)}, which have no known cost in train: give a pool with their prices "
                "(--prices POOL.yaml; it needs the columns prompt_tokens and completion_tokens)"
            )
        n, total = int(unknown_QA.sum()), int(outcomes.observed_QA.sum())
        notes.append(
            f"the cost of {n:,} of {total:,} outcomes ({share(n, total)}) is unknown and estimated: {', '.join(ways)} "
            "(--unknown-cost estimate)"
        )
        return replace(outcomes, cost_QA=cost_QA)

    def _priced(self, outcomes: Outcomes, unknown_QA: BoolQA) -> FloatQA:
        """USD by the price book, NaN where there is no price or a count is not known."""
        usd_QA = np.full(unknown_QA.shape, np.nan)
        counts = [outcomes.column_QA.get(name, np.full(unknown_QA.shape, np.nan)) for name in TOKENS]
        if self.pricing is None:
            return usd_QA
        for row, arm in np.argwhere(unknown_QA & ~np.isnan(counts[0]) & ~np.isnan(counts[1])):
            prompt, completion, reasoning, cached = (int(np.nan_to_num(each[row, arm])) for each in counts)
            usd = self.pricing(outcomes.arms[arm].model, prompt, completion, reasoning, cached)
            usd_QA[row, arm] = np.nan if usd is None else usd
        return usd_QA


def _worst(outcomes: Outcomes, unknown_QA: BoolQA) -> str:
    """Which arms the unknown costs are of, those with most of them first."""
    count_A = unknown_QA.sum(axis=0)
    order = [arm for arm in np.argsort(-count_A, kind="stable") if count_A[arm]]
    named = [f"{outcomes.arms[arm]} ({count_A[arm]:,})" for arm in order]
    return f"of {counted(len(named), 'arm')}: {some_of(named, 5)}"


def _dropped(outcomes: Outcomes, unknown_QA: BoolQA, missing: str, notes: list[str]) -> Outcomes:
    n, total = int(unknown_QA.sum()), int(outcomes.observed_QA.sum())
    what = f"the cost of {n:,} of {total:,} outcomes ({share(n, total)}) is unknown"
    if missing == "restrict" and not outcomes.logged:
        notes.append(f"{what}: these count as missing outcomes (--unknown-cost drop)")
        return replace(outcomes, score_QA=np.where(unknown_QA, np.nan, outcomes.score_QA))
    lost_Q = np.any(unknown_QA, axis=1)
    kept = outcomes.take(~lost_Q)
    gone = sorted(set(outcomes.split_Q) - set(kept.split_Q))
    if gone:
        raise OutcomesError(
            f"{outcomes.name}: {what}, {_worst(outcomes, unknown_QA)}, and without their queries no {gone[0]} query is "
            "left: choose --unknown-cost estimate, or --missing restrict beside --unknown-cost drop"
        )
    notes.append(
        f"{what}: {int(lost_Q.sum()):,} of {counted(len(outcomes), 'query')} with such an outcome are left out "
        "(--unknown-cost drop)"
    )
    return kept


def _at_own_rate(outcomes: Outcomes) -> FloatQA:
    """USD at what a prompt token and a completion token of the arm cost on train, NaN where that cannot be told."""
    from scipy.optimize import nnls

    usd_QA = np.full(outcomes.cost_QA.shape, np.nan)
    if not {"prompt_tokens", "completion_tokens"} <= set(outcomes.column_QA):
        return usd_QA
    tokens_QAK = np.stack([outcomes.column_QA[name] for name in TOKENS[:2]], axis=-1)
    for arm in range(len(outcomes.arms)):
        known_Q = ~np.isnan(outcomes.cost_QA[:, arm]) & ~np.isnan(tokens_QAK[:, arm]).any(axis=-1)
        known_Q &= outcomes.split_Q == "train"
        if known_Q.sum() < _LEAST_PRICED:
            continue
        scale_K = tokens_QAK[known_Q, arm].max(axis=0)
        scale_K = np.where(scale_K > 0, scale_K, 1.0)
        level = outcomes.cost_QA[known_Q, arm].max() or 1.0
        rate_K, _ = nnls(tokens_QAK[known_Q, arm] / scale_K, outcomes.cost_QA[known_Q, arm] / level)
        usd_QA[:, arm] = (tokens_QAK[:, arm] / scale_K) @ rate_K * level
    return usd_QA


def _mean_cost(outcomes: Outcomes) -> FloatQA:
    train = outcomes.of_split("train")
    return np.tile(mean_over_observed(train.cost_QA, train.propensity_Q), (len(outcomes), 1))


def small(n_unknown: int, n_known: int) -> bool:
    """Whether so few costs are unknown that a run asks what to do with them."""
    return 0 < n_unknown <= SMALL_SHARE * (n_unknown + n_known)
