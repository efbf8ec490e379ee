"""`guarded-NAME`: a router that predicts, made to leave the best single arm only where it is sure of a gain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import field, make_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from pydantic import BeforeValidator

from recal_bench.arrays import BoolQ, FloatA, FloatQA, IntQ
from recal_bench.encoders.cache import UNREADABLE, read, write
from recal_bench.errors import OutcomesError, RunError, SettingsError
from recal_bench.evaluation.caution import CAUTION, gain_errors, most_cautious
from recal_bench.evaluation.references import arm_effects
from recal_bench.outcomes import mean_over_observed
from recal_bench.routers.flags import flags_of
from recal_bench.routers.interface import Calls, Context, Decisions, Predictions, Queries, Train

GUARDED = "guarded-"


def _checked(value: object) -> object:
    """`auto`, `inf` as a text (JSON has no such number), or a number of standard errors."""
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = -1.0
    if value != "auto" and not number >= 0:
        raise ValueError("give auto, or a number of standard errors: 0 or more, or inf")
    return "auto" if value == "auto" else "inf" if math.isinf(number) else number


Guard: TypeAlias = Annotated[float | str, BeforeValidator(_checked)]
_FILE = "guard.npz"
_MADE: dict[type[Any], type[Any]] = {}


class Known(NamedTuple):
    """What a guard has learnt. The levels of the arms on train, `[A]`; of the validation queries what the router
    expected and what was observed (costs in USD); and the standard errors that a gain must exceed.
    """

    score_A: FloatA
    cost_A: FloatA
    expected_score_VA: FloatQA
    expected_cost_VA: FloatQA
    score_VA: FloatQA
    cost_VA: FloatQA
    caution: float


class Guarded:
    """What a guarded router does beside the router it is made of: `guarded` puts the two together.

    The fallback is the arm of the highest utility on train (see `best-single`). Another arm is chosen where its
    predicted gain over the fallback exceeds `guard` standard errors of that gain, the arm with most to spare before
    others; the errors are those of the router's own predictions on validation queries like this one (see
    `gain_errors`). `auto` takes the most cautious of `CAUTION` whose utility on validation is within a standard error
    of the best one's.
    """

    compares_arms: ClassVar[bool] = True
    guard: Guard
    predict: Any
    _guard: Known
    _guard_last: tuple[Queries, Predictions]

    def __post_init__(self) -> None:
        """Raises SettingsError where the router may be asked at any price of cost, but predicts no costs."""
        if hasattr(super(), "__post_init__"):
            super().__post_init__()  # type: ignore[misc]
        if hasattr(self, "utilities") and self.sweeps:
            raise SettingsError("a guard is fitted at one price of cost: leave policy.alpha=conditioned out beside it")

    @property
    def sweeps(self) -> bool:
        """At another price of cost the errors are those of the predictions at that price; the caution stays."""
        return not hasattr(self, "utilities") or bool(getattr(super(), "sweeps", False))

    @property
    def caution(self) -> float:
        """The standard errors that a predicted gain must exceed."""
        return self._guard.caution

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        super().fit(train, validation, context)  # type: ignore[misc]
        self._fit_guard(train, validation)

    def _fit_guard(self, train: Train, validation: Train) -> None:
        outcomes = validation.outcomes
        kept = np.flatnonzero(outcomes.observed_QA.any(axis=1))
        if not (outcomes.observed_QA.sum(axis=1) > 1).any():
            raise OutcomesError(
                "a guard learns how far predicted gains are off from validation queries with the outcomes of two arms, "
                "and there are none: give some, or run the router without its guard"
            )
        outcomes = outcomes.take(kept)
        queries, objective = validation.queries.take(kept), train.objective
        mean_cost_A = mean_over_observed(train.outcomes.cost_QA)
        calls = Calls(outcomes.arms, objective, outcomes.observed_QA, mean_cost_A)
        expected = self._expected(queries, calls)
        score_A, cost_A = (
            arm_effects(each, train.outcomes.task_Q) for each in (train.outcomes.score_QA, train.outcomes.cost_QA)
        )
        self._guard = Known(score_A, cost_A, *expected, outcomes.score_QA, outcomes.cost_QA, math.inf)
        if self.guard == "auto":
            utility_QA, rows = objective.utility(outcomes.score_QA, outcomes.cost_QA), np.arange(len(queries.prompt))
            utility_CV = [
                utility_QA[rows, calls.choose(self._cautious(expected, calls, each, rows)).arm_Q] for each in CAUTION
            ]
            caution = CAUTION[most_cautious(np.stack(utility_CV), outcomes.task_Q.astype(str))]
        else:
            caution = float(self.guard)
        self._guard = self._guard._replace(caution=caution)

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        return calls.choose(self._cautious(self._expected(queries, calls), calls, self.caution))

    def held_back(self, queries: Queries, calls: Calls) -> BoolQ:
        """The queries on which the guard keeps the fallback against the router's own choice."""
        expected, fallback_Q = self._expected(queries, calls), self.fallback(calls)
        own_Q = calls.choose(calls.objective.utility(*expected)).arm_Q
        chosen_Q = calls.choose(self._cautious(expected, calls, self.caution)).arm_Q
        return np.asarray((own_Q != fallback_Q) & (chosen_Q == fallback_Q))

    def fallback(self, calls: Calls) -> IntQ:
        """The available arm of the highest utility on train, of each query."""
        level_A = calls.objective.utility(self._guard.score_A, self._guard.cost_A)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm. Held-out arms come last.
        level_A = np.round(np.append(level_A, np.full(len(calls.arms) - len(level_A), np.nan)), 12)
        level_A = np.nan_to_num(level_A, nan=np.nanmin(level_A) - 1)
        return np.asarray(calls.choose(np.tile(level_A, (len(calls.available_QA), 1))).arm_Q)

    def _expected(self, queries: Queries, calls: Calls) -> Predictions:
        """Score and cost of every arm; of a router that says utilities alone these, and costs of 0."""
        if hasattr(self, "utilities"):
            value_QA = self.utilities(queries, calls)
            return Predictions(value_QA, np.zeros_like(value_QA))
        if not hasattr(self, "_guard_last") or self._guard_last[0] is not queries:
            # A sweep asks about the same queries at every price.
            self._guard_last = (queries, self.predict(queries))
        return self._guard_last[1]

    def _cautious(self, expected: Predictions, calls: Calls, caution: float, own_Q: IntQ | None = None) -> FloatQA:
        """Utilities less what caution asks for; of validation queries (`own_Q`) as if each were not among them."""
        known, objective = self._guard, calls.objective
        value_QA = objective.utility(*expected)
        if caution == 0:
            return value_QA
        rows, fallback_Q = np.arange(len(value_QA)), self.fallback(calls)
        if math.isinf(caution):
            surest_QA = value_QA.copy()
            surest_QA[rows, fallback_Q] = value_QA.max(axis=1, initial=0.0) + 1
            return surest_QA
        seen_VA = objective.utility(known.expected_score_VA, known.expected_cost_VA)
        residual_VA = objective.utility(known.score_VA, known.cost_VA) - seen_VA
        n_known = seen_VA.shape[1]
        error_QA = np.zeros_like(value_QA)
        for arm in np.unique(fallback_Q[fallback_Q < n_known]):
            of_arm = np.flatnonzero(fallback_Q == arm)
            error_QA[of_arm, :n_known] = gain_errors(
                _over(value_QA[of_arm, :n_known], arm),
                _over(seen_VA, arm),
                _over(residual_VA, arm),
                None if own_Q is None else own_Q[of_arm],
            )
        # An arm that train did not hold is as uncertain as the most uncertain one.
        error_QA[:, n_known:] = error_QA.max(axis=1, keepdims=True)
        error_QA[rows, fallback_Q] = 0.0
        return np.asarray(value_QA - caution * error_QA)

    def save(self, folder: Path) -> None:
        super().save(folder)  # type: ignore[misc]
        write(folder / _FILE, {name: np.asarray(value) for name, value in self._guard._asdict().items()})

    def load(self, folder: Path) -> None:
        """Raises RunError where the folder holds no such file, or a damaged one."""
        super().load(folder)  # type: ignore[misc]
        try:
            arrays = read(folder / _FILE)
            learnt: dict[str, Any] = {name: arrays[name] for name in Known._fields}
            self._guard = Known(**learnt | {"caution": float(arrays["caution"])})
        except UNREADABLE as error:
            raise RunError(f"{folder / _FILE} holds no guard: run the router again with --fresh") from error


def _over(value_QA: FloatQA, arm: int) -> FloatQA:
    """By how much each arm's value exceeds that of one of them."""
    return value_QA - value_QA[:, [arm]]


def refusal(cls: type[Any]) -> str | None:
    """Why a router class cannot be guarded; None where it can."""
    if flags_of(cls).partial_feedback:
        return "it learns from the outcome of one arm a query, and a guard needs those of two"
    if not (hasattr(cls, "predict") or hasattr(cls, "utilities")):
        return "it has neither predict() nor utilities(), and a guard needs what it expects of every arm"
    return None


def guarded(cls: type[Any]) -> type[Any]:
    """The guarded kind of a router class, with all of its settings and one more, `guard`: the same class every time."""
    if cls not in _MADE:
        _MADE[cls] = _made(cls)
    return _MADE[cls]


def _made(cls: type[Any]) -> type[Any]:

    def fit_seeds(
        made: Any, seeds: Sequence[Any], train: Train, validation: Train, contexts: Sequence[Context]
    ) -> None:
        cls.fit_seeds.__func__(made, seeds, train, validation, contexts)
        for each in seeds:
            each._fit_guard(train, validation)

    def fit(self: Any, train: Train, validation: Train, context: Context) -> None:
        type(self).fit_seeds([self], train, validation, [context])

    at_once = {"fit": fit, "fit_seeds": classmethod(fit_seeds)} if hasattr(cls, "fit_seeds") else {}
    return make_dataclass(
        f"Guarded{cls.__name__}",
        [("guard", Guard, field(default="auto"))],
        bases=(Guarded, cls),
        namespace={"__module__": cls.__module__, "__doc__": cls.__doc__, **at_once},
    )
