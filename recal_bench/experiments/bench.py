"""Outcomes made ready to be run on: read or simulated, split, checked, with the objective fixed on train."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench.arrays import FloatA, FloatQA
from recal_bench.defaults import DEFAULT_ALPHA
from recal_bench.errors import OutcomesError, SettingsError
from recal_bench.experiments.records import Data
from recal_bench.outcomes import Objective, Outcomes, mean_over_observed
from recal_bench.outcomes.reading import AS_WRITTEN, WHOLE_RANGE, Reading
from recal_bench.outcomes.splits import Splits, prepare
from recal_bench.outcomes.unknown_costs import UnknownCosts
from recal_bench.routers import Calls, Queries, Reply, Router, Train


@dataclass(frozen=True)
class Bench:
    """What every run on the same outcomes shares. `mean_score_A` and `mean_cost_A` (USD) are over train.

    `adviser` answers for the models themselves (`Calls.advise`), on the embedded pool only.
    Where arms are held out (see `variants`), the evaluated splits hold them after the known ones, and `few` has their
    outcomes on a few train queries. `responses`: routers are shown what the arms answered, where that is known.
    `options` are those of the command line that give the same bench.
    """

    data: Data
    splits: Splits
    objective: Objective
    mean_score_A: FloatA
    mean_cost_A: FloatA
    few: Outcomes | None = None
    adviser: Callable[[str, str], Reply] | None = None
    responses: bool = False
    options: tuple[str | Path, ...] = ()

    @property
    def train(self) -> Train:
        return self._of(self.splits.train)

    @property
    def validation(self) -> Train:
        return self._of(self.splits.validation)

    def _of(self, outcomes: Outcomes) -> Train:
        visible = replace(self.charged(outcomes), expected_score_QA=None, expected_cost_QA=None)
        return Train(queries_of(outcomes), visible, self.objective)

    def charged(self, outcomes: Outcomes) -> Outcomes:
        """Outcomes whose costs hold what is charged for latency: what routers learn from and utility is made of."""
        cost_QA = self.objective.charged(outcomes.cost_QA, outcomes.latency_QA)
        return outcomes if cost_QA is outcomes.cost_QA else replace(outcomes, cost_QA=cost_QA)

    @property
    def labelled(self) -> Train | None:
        """The outcomes of held-out arms on a few train queries, for routers that can adapt to them."""
        return None if self.few is None else self._of(self.few)

    @cached_property
    def label_cost(self) -> float | None:
        """USD of all outcomes of train; None where a cost is not known."""
        train = self.splits.train
        return float(train.cost_QA[train.observed_QA].sum()) if self.objective.has_cost else None

    @cached_property
    def expected_utility(self) -> dict[str, FloatQA]:
        """The utility of every arm on each split that routers are not fitted to, as a model expects it from train.

        The model is the ridge regression of the toolbox at its defaults; doubly robust estimates start from it.
        """
        from recal_bench.toolbox.ridge import fit_ridge, predict_ridge

        fit = fit_ridge(self.train)
        parts = {name: part for name, part in self.splits.parts.items() if name != "train"}
        return {name: self.objective.utility(*predict_ridge(fit, queries_of(part))) for name, part in parts.items()}

    def of_train_arms(self, outcomes: Outcomes) -> Outcomes:
        """The same queries with the arms that train holds."""
        return outcomes.take_arms(np.arange(len(self.splits.train.arms)))

    def calls(self, outcomes: Outcomes, router: Router | None = None) -> Calls:
        """The replayed arms for the queries of one split; for a router that cannot adapt without the held-out ones."""
        if self.few is not None and router is not None and not hasattr(router, "adapt"):
            outcomes = self.of_train_arms(outcomes)

        charged_QA = self.objective.charged(outcomes.cost_QA, outcomes.latency_QA)

        def reply(row: int, arm: int) -> Reply:
            text = None if outcomes.response_QA is None else outcomes.response_QA[row, arm]
            return Reply(text, float(charged_QA[row, arm]))

        mean_cost_A = self.mean_cost_A[: len(outcomes.arms)]
        available_QA = outcomes.observed_QA
        if outcomes.logged:
            # Where one arm was drawn any may be chosen, and what it would have given is estimated.
            available_QA = available_QA | ~outcomes.several_Q[:, None]
        replies = None if outcomes.logged else reply
        return Calls(outcomes.arms, self.objective, available_QA, mean_cost_A, replies, self.adviser)


def queries_of(outcomes: Outcomes) -> Queries:
    """What a router may see of a split: identifiers that tell nothing (a log's own often name the task), and texts."""
    features = () if outcomes.feature_Q is None else tuple(outcomes.feature_Q)
    return Queries(outcomes.identifier_Q, tuple(outcomes.prompt_Q), features)


def load_outcomes(
    path: str | Path | None = None,
    *,
    score_range: tuple[float, float] = WHOLE_RANGE,
    zero_cost: str | None = None,
    split_by: str | None = None,
    tokens: bool = False,
    world_seed: int = 0,
    world_arms: str = "standard",
    responses: bool = False,
    columns: Sequence[str] = (),
    features: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Outcomes:
    """The outcomes of a file (see `docs/outcomes.md`), or of the embedded, simulated pool where no path is given.

    `score_range` are the ends of the file's scale of scores, `zero_cost` says whether a cost of 0 is `free` or
    `unknown` (see `outcomes.reading`); `split_by` names the column in whose order queries become train, validation and
    test; `tokens`: with the columns of token counts that the file has.
    `responses`: with what the arms answered; `columns`: with these other numeric columns of the file; `features`: with
    its columns `feature_*`.
    Raises OutcomesError where the file is not usable, with what is wrong and what to do.
    """
    reading = Reading(score_range, zero_cost, tokens, split_by, features)
    if path is not None:
        from recal_bench.outcomes.kept import read_kept

        if world_seed:
            raise SettingsError("a world seed is for the embedded pool: leave it out beside an outcomes file")
        if world_arms != "standard":
            raise SettingsError("--world-arms is for the embedded pool: leave it out beside an outcomes file")
        return read_kept(Path(path), responses, columns, reading)
    from recal_bench.simulation import embedded_outcomes, embedded_responses

    if features:
        raise OutcomesError("the embedded pool has no columns feature_*: give a file that has some with --outcomes")
    if replace(reading, tokens=False) != AS_WRITTEN:
        raise SettingsError(
            "--score-range, --zero-cost and --split-by are for an outcomes file: leave them out without --outcomes"
        )
    if columns:
        raise OutcomesError(
            f"the embedded pool has no column {', '.join(columns)}, which a router learns from: give a file that "
            "has it with --outcomes"
        )
    outcomes = embedded_outcomes(world_seed, world_arms=world_arms, progress=progress)
    if not responses:
        return outcomes
    return replace(outcomes, response_QA=embedded_responses(world_seed, world_arms=world_arms))


def load_worlds(worlds: int, *, world_seed: int = 0, **options: Any) -> list[Bench]:
    """`load_bench` of the embedded pool's worlds from `world_seed` on; their commands name them all.

    Raises SettingsError where there is less than one, and where an outcomes file is given too.
    """
    if worlds < 1:
        raise SettingsError(f"{worlds} worlds: give 1 or more")
    if options.get("path") is not None and worlds > 1:
        raise SettingsError("several worlds are for the embedded pool: leave them out beside an outcomes file")
    benches = [load_bench(world_seed=world_seed + number, **options) for number in range(worlds)]
    words: list[str | Path] = ["--worlds", str(worlds)] if worlds > 1 else []
    return [replace(each, options=(*benches[0].options, *words)) for each in benches]


def load_bench(
    path: str | Path | None = None,
    *,
    tasks: Sequence[str] = (),
    alpha: float = DEFAULT_ALPHA,
    missing: str = "error",
    unknown_cost: str | None = None,
    prices: str | Path | None = None,
    score_range: tuple[float, float] = WHOLE_RANGE,
    zero_cost: str | None = None,
    split_by: str | None = None,
    world_seed: int = 0,
    world_arms: str = "standard",
    responses: bool = False,
    columns: Sequence[str] = (),
    features: bool = False,
    progress: Callable[[float], None] | None = None,
) -> Bench:
    """Outcomes as `load_outcomes` reads them, made ready to be run on: split, checked, with the objective fixed.

    `tasks` keeps these tasks alone, in every split. `alpha` is the price of cost in the utility. `missing` says what to
    do where an arm has no outcome for a query: `error`, `zero` (its score is 0) or `restrict` (no router chooses it).
    `unknown_cost` says what to do where some costs are not known (see `outcomes.unknown_costs`): `error`, `drop` or
    `estimate`, from token counts where `prices` names a pool file with the models' prices.
    `responses`, `columns` and `features` are for routers that read them (see `Flags`). `progress` is told the share
    that is done.
    Raises OutcomesError where the outcomes are not usable, with what is wrong and what to do.
    """
    tasks = (tasks,) if isinstance(tasks, str) else tuple(tasks)
    costs = _costs(unknown_cost, None if prices is None else Path(prices))
    outcomes = load_outcomes(
        path,
        score_range=score_range,
        zero_cost=zero_cost,
        split_by=split_by,
        tokens=unknown_cost == "estimate",
        world_seed=world_seed,
        world_arms=world_arms,
        responses=responses,
        columns=columns,
        features=features,
        progress=progress,
    )
    partly_known = bool((outcomes.observed_QA & np.isnan(outcomes.cost_QA)).any())
    adviser = None
    if path is None:
        from recal_bench.simulation import simulated_adviser

        adviser = simulated_adviser(world_seed)
    splits = prepare(outcomes, tasks, missing, costs)
    train = splits.train
    objective = Objective.from_train(train.score_QA, train.cost_QA, alpha, train.propensity_Q)
    if objective.has_cost or objective.unknown_costs:
        unknown = sum(int((part.observed_QA & np.isnan(part.cost_QA)).sum()) for part in splits.parts.values())
        if unknown:
            objective = replace(objective, cost_ref=None, unknown_costs=unknown)
    data = Data(
        name=outcomes.name,
        hash=outcomes.data_hash,
        simulated=outcomes.simulated,
        tasks=tuple(sorted({task for part in splits.parts.values() for task in part.tasks})),
        missing=missing,
        alpha=alpha,
        cost_ref=objective.cost_ref,
        unknown_costs=objective.unknown_costs,
        arms=tuple(str(arm) for arm in train.arms),
        logged=train.logged,
        cost_rule=costs.recorded if partly_known else "error",
        n_queries={name: len(part) for name, part in splits.parts.items()},
        split_by=split_by,
        notes=splits.notes,
    )
    mean_score_A, mean_cost_A = (
        mean_over_observed(value_QA, train.propensity_Q) for value_QA in (train.score_QA, train.cost_QA)
    )
    options: list[str | Path] = [] if path is None else ["--outcomes", Path(path)]
    options += ["--world-seed", str(world_seed)] if world_seed else []
    options += ["--world-arms", world_arms] if world_arms != "standard" else []
    options += ["--tasks", ",".join(tasks)] if tasks else []
    options += ["--alpha", repr(alpha)] if alpha != DEFAULT_ALPHA else []
    options += ["--missing", missing] if missing != "error" else []
    options += ["--unknown-cost", unknown_cost] if unknown_cost else []
    options += ["--prices", Path(prices)] if prices is not None else []
    options += ["--score-range", f"{score_range[0]!r},{score_range[1]!r}"] if score_range != WHOLE_RANGE else []
    options += ["--zero-cost", zero_cost] if zero_cost else []
    options += ["--split-by", split_by] if split_by else []
    return Bench(
        data,
        splits,
        objective,
        mean_score_A,
        mean_cost_A,
        adviser=adviser,
        responses=responses,
        options=tuple(options),
    )


def _costs(rule: str | None, prices: Path | None) -> UnknownCosts:
    """The rule for unknown costs, with the price book of a pool file."""
    if prices is None:
        return UnknownCosts(rule)
    from recal_bench.pools.files import read_pool

    pool = read_pool(prices)

    def pricing(model: str, prompt: int, completion: int, reasoning: int, cached: int) -> float | None:
        found = pool.models.get(model)
        return None if found is None else found.price.usd(prompt, completion, reasoning, cached)

    return UnknownCosts(rule, pricing, pool.price_book)
