"""The Router interface: what a router is shown, what it answers, what it may call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np

from recal_bench.arrays import BoolQA, FloatA, FloatQ, FloatQA, IntQ
from recal_bench.encoders import FeatureValues
from recal_bench.errors import PluginError
from recal_bench.outcomes import Arm, Objective, Outcomes
from recal_bench.routers.flags import flags_of


class Queries(NamedTuple):
    """What a router is shown when it routes: identifiers and texts, never a task's name, never a score.

    `features` is what the platform knows of each query besides (the columns `feature_*`), for routers that read it (see
    `Flags`); empty for others.
    """

    query_id: tuple[str, ...]
    prompt: tuple[str, ...]
    features: tuple[FeatureValues, ...] = ()

    def take(self, rows: Sequence[int] | IntQ) -> Queries:
        """The queries of some rows."""
        query_id, prompt = (tuple(texts[row] for row in rows) for texts in (self.query_id, self.prompt))
        return Queries(query_id, prompt, tuple(self.features[row] for row in rows) if self.features else ())


class Train(NamedTuple):
    """One split to learn from. Missing outcomes are NaN in `outcomes.score_QA`.

    A router with partial feedback is shown no outcome there (all NaN), and asks `feedback` for them one by one; others
    have none.
    """

    queries: Queries
    outcomes: Outcomes
    objective: Objective
    feedback: Feedback | None = None

    @property
    def utility_QA(self) -> FloatQA:
        """What a router should predict or maximise; NaN where an arm has no outcome."""
        return self.objective.utility(self.outcomes.score_QA, self.outcomes.cost_QA)


class Feedback:
    """What a router with partial feedback learns from: the outcome of one arm a query, the one that it asks.

    `available_QA` says which arms may be asked: those with an outcome. In a log of single choices that is one a query.
    """

    def __init__(self, outcomes: Outcomes, objective: Objective) -> None:
        self._outcomes, self._objective = outcomes, objective
        self._asked_Q = np.full(len(outcomes), -1)
        self.available_QA = outcomes.observed_QA

    def ask(self, row: int, arm: int) -> Outcome:
        """The outcome of an arm on a query. Raises PluginError on a second arm for the same query."""
        if self._asked_Q[row] not in (-1, arm):
            raise PluginError("a router with partial feedback asked two arms about one query: it may see one")
        if not self.available_QA[row, arm]:
            raise PluginError("a router asked an arm without an outcome: feedback.available_QA says which have one")
        self._asked_Q[row] = arm
        score, cost = self._outcomes.score_QA[row, arm], self._outcomes.cost_QA[row, arm]
        return Outcome(float(score), float(cost), float(self._objective.utility(score, cost)))

    def take(self, rows: IntQ) -> Feedback:
        """The same for chosen rows, as if nothing had been asked."""
        return Feedback(self._outcomes.take(rows), self._objective)


class Outcome(NamedTuple):
    """What one arm gave on one query: score, cost (USD; NaN where unknown) and the utility of both."""

    score: float
    cost: float
    utility: float


class Reply(NamedTuple):
    """What a called arm answers: its text (None where the outcomes hold none) and cost (USD). Never its score."""

    text: str | None
    cost: float


class Context(NamedTuple):
    """Where and how a fit runs. `folder` is the run's own, for checkpoints; `log` appends a line to metrics.jsonl.

    `max_usd` is what calls of a fit may cost, for routers that ask arms which bill; None where nobody has said it.
    """

    seed: int
    device: str
    folder: Path
    log: Callable[[dict[str, Any]], None]
    max_usd: float | None = None


class Predictions(NamedTuple):
    """Expected score and cost (USD; NaN where the outcomes hold no cost) of every arm."""

    score_QA: FloatQA
    cost_QA: FloatQA


class Decisions(NamedTuple):
    """The arm (index into `calls.arms`) chosen for each query; `answer_Q` where the router itself answers."""

    arm_Q: IntQ
    answer_Q: tuple[str, ...] | None = None


@dataclass
class Calls:
    """The arms on offer while routing: which of them may be called, what they answer, and the meter.

    `called_QA` are the arms that were asked; each is paid for, and so is the chosen arm, once. `adviser` answers a
    message to one of the pool's models, on the embedded pool only.
    """

    arms: tuple[Arm, ...]
    objective: Objective
    available_QA: BoolQA
    mean_cost_A: FloatA
    replies: Callable[[int, int], Reply] | None = None
    adviser: Callable[[str, str], Reply] | None = None
    router_cost_Q: FloatQ = field(init=False)
    called_QA: BoolQA = field(init=False)

    def __post_init__(self) -> None:
        self.router_cost_Q = np.zeros(len(self.available_QA))
        self.called_QA = np.zeros_like(self.available_QA)

    def ask(self, row: int, arm: int) -> Reply:
        """Call an arm on a query, and pay for it. Raises PluginError where it has no outcome or nothing answers."""
        if self.replies is None:
            raise PluginError("this router asks arms before it decides, and nothing here can answer it")
        if not self.available_QA[row, arm]:
            raise PluginError(f"a router asked {self.arms[arm]}, which has no outcome for a query: see available_QA")
        self.called_QA[row, arm] = True
        return self.replies(row, arm)

    def advise(self, row: int, model: str, message: str) -> Reply:
        """What a model says to a message about a query; it is billed as the router's own cost of that query.

        Raises PluginError where there is nothing to answer: elsewhere than on the embedded pool.
        """
        if self.adviser is None:
            raise PluginError("this router asks a model for advice, and only the embedded pool has some to answer")
        reply = self.adviser(model, message)
        self.bill(row, reply.cost)
        return reply

    def paid_QA(self, decisions: Decisions) -> BoolQA:
        """The arms that are paid for: those asked, and the chosen one."""
        paid_QA = self.called_QA.copy()
        paid_QA[np.arange(len(paid_QA)), np.asarray(decisions.arm_Q)] = True
        return paid_QA

    def bill(self, row: int, usd: float) -> None:
        """Charge the router's own cost (e.g. of a language model that it asks for advice) to a query."""
        if not usd >= 0:
            raise ValueError(f"a router billed {usd} USD for row {row}: a cost is a number >= 0")
        self.router_cost_Q[row] += usd

    def choose(self, value_QA: FloatQA) -> Decisions:
        """The available arm of the highest value; equal values go to the arm that is cheaper on train, then by name.

        Raises PluginError on values of another shape, and where an available arm's is not finite: it would win or
        lose by accident.
        """
        if value_QA.shape != self.available_QA.shape:
            raise PluginError(
                f"a router gave values of shape {value_QA.shape}: "
                f"one for each of {len(self.available_QA)} queries and {len(self.arms)} arms is needed"
            )
        unusable = int((self.available_QA & ~np.isfinite(value_QA)).sum())
        if unusable:
            raise PluginError(f"a router gave {unusable} available arms a value that is not a finite number")
        cost_A = np.where(np.isnan(self.mean_cost_A), np.inf, self.mean_cost_A)
        order_A = np.argsort(cost_A, kind="stable")
        value_QA = np.where(self.available_QA, value_QA, -np.inf)[:, order_A]
        return Decisions(order_A[np.argmax(value_QA, axis=1)].astype(np.int64))


class Router(Protocol):
    """What every router has. Besides, it has `route` or `predict` (see `Routes` and `Predicts`).

    A router is a dataclass: its fields are its settings (`--set KEY=VALUE`), checked by their types.
    Its class attributes tell the harness how to treat it: see `Flags`. A class may have a class method
    `fit_seeds(routers, train, validation, contexts)` that fits several seeds at once, with the results of `fit`;
    a method `utilities(queries, calls)` by which a router that does not predict says what it expects of every arm, up
    to a constant for each query: a guard needs it (see `guarded`); and a method `adapt(arms, few)` that is called after
    `fit` with arms that train did not hold and their outcomes on a few train queries (a `Train`), after which the
    router decides among its arms and then these, in that order.
    """

    deterministic: ClassVar[bool]

    def fit(self, train: Train, validation: Train, context: Context) -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...


@runtime_checkable
class Routes(Protocol):
    """A router that decides itself."""

    def route(self, queries: Queries, calls: Calls) -> Decisions: ...


@runtime_checkable
class Predicts(Protocol):
    """A router that predicts score and cost of every arm; the harness chooses the arm of the highest utility."""

    def predict(self, queries: Queries) -> Predictions: ...


def fit_seeds(seeds: Sequence[Router], train: Train, validation: Train, contexts: Sequence[Context]) -> None:
    """Fit routers of the same settings, one for each context: at once where their class can (`fit_seeds`).

    Routers with partial feedback are fitted one by one: each asks for outcomes of its own.
    """
    at_once = getattr(seeds[0], "fit_seeds", None)
    if at_once is not None and not flags_of(seeds[0]).partial_feedback:
        at_once(seeds, shown_to(seeds[0], train), shown_to(seeds[0], validation), contexts)
        return
    for router, context in zip(seeds, contexts, strict=True):
        router.fit(shown_to(router, train), shown_to(router, validation), context)


def shown_to(router: Router, split: Train) -> Train:
    """What a router may see of a split: all of it, or one outcome a query that it must ask for.

    Features are for routers that read them.
    """
    split = split._replace(queries=queries_for(router, split.queries))
    if not flags_of(router).partial_feedback:
        return split
    hidden = np.full_like(split.outcomes.score_QA, np.nan)
    outcomes = replace(split.outcomes, score_QA=hidden, cost_QA=hidden, response_QA=None)
    return split._replace(outcomes=outcomes, feedback=Feedback(split.outcomes, split.objective))


def queries_for(router: Router, queries: Queries) -> Queries:
    """What a router may see of queries: their features only where it reads them."""
    return queries if not queries.features or flags_of(router).reads_features else queries._replace(features=())
