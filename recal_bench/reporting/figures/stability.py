"""How steady the routers of a folder were trained: one row for each router with its settings, one report for each set
of outcomes. docs/stability.md defines every figure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from recal_bench.arrays import finite_or_none
from recal_bench.defaults import TRAINING_BASELINE
from recal_bench.errors import RecalBenchError, RunError
from recal_bench.evaluation import metrics
from recal_bench.evaluation import stability as measure
from recal_bench.evaluation.stability import Bounded, Collapse, Curve
from recal_bench.experiments.records import Data, Run
from recal_bench.reporting.figures.differences import METRICS, headline_metrics
from recal_bench.reporting.figures.entries import Entry, Group, read_groups, same_data
from recal_bench.reporting.figures.logged import seed_estimates
from recal_bench.reporting.figures.training_logs import (
    BEST_SINGLE,
    UTILITY,
    Curves,
    collapse_of,
    curves_of,
    gains_of,
    has_log,
    is_torn,
    prior_notes,
)

Bounds: TypeAlias = tuple[float | None, float | None]


class Versus(BaseModel):
    """A router held against the baseline, with 95% intervals; a bound is null where that side is open."""

    sd_ratio: float | None
    sd_ratio_ci: Bounds | None
    steps_ratio: float | None
    steps_ratio_ci: Bounds | None
    area_difference: float | None
    area_difference_ci: Bounds | None
    collapse_difference: float | None
    collapse_difference_ci: Bounds | None


class StabilityRow(BaseModel):
    """One router with one set of settings. Figures of single seeds are averaged over them; null where unknown.

    `gain_over_prior` is what the kept policy gained on validation over the untrained one, the prior; `adds_nothing`
    counts the seeds whose gain cannot be told from nothing.
    """

    router: str
    settings: dict[str, Any]
    settings_hash: str
    outcomes: str
    data_hash: str
    alpha: float
    simulated: bool
    baseline: str | None
    n_seeds: int
    test_mean: float | None
    seed_sd: float | None
    seed_sd_ci: Bounds | None
    final_utility: float | None
    area_under_curve: float | None
    detrended_iqr: float | None
    max_drawdown: float | None
    target_utility: float | None
    steps_to_target: float | None
    seeds_at_target: int | None
    collapse_rate: float | None
    collapsed: int | None
    never_gained: int | None
    kept_step: float | None
    gain_over_prior: float | None
    adds_nothing: int | None
    gradient_tail: float | None
    gradient_spikes: float | None
    gradient_spike_share: float | None
    entropy_ratio: float | None
    groups_without_spread: float | None
    top_arm_share: float | None
    vs_baseline: Versus | None


@dataclass(frozen=True)
class StabilityReport:
    """The rows of one set of outcomes, by their final validation utility.

    `curves[r][s]` are the log's columns of row r's seed s. `target` is the utility that `steps_to_target` asks for.
    """

    data: Data
    baseline: str | None
    target: float | None
    rows: tuple[StabilityRow, ...]
    curves: tuple[tuple[Curves, ...], ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Trained:
    """One row's raw material: final test scores, logged columns, and what is made of them, by seed."""

    entry: Entry
    final_S: NDArray[np.float64]
    curves_S: tuple[Curves, ...]

    def all_of(self, name: str) -> list[Curve] | None:
        """A column of every seed; None where one lacks it."""
        found = [curves[name] for curves in self.curves_S if name in curves]
        return found if len(found) == len(self.curves_S) else None

    def mean(self, name: str, figure: Callable[[Curve], float]) -> float | None:
        """Mean over the seeds of a figure of one column; None where it is unknown for one of them."""
        curves = self.all_of(name)
        return finite_or_none(float(np.mean([figure(curve) for curve in curves]))) if curves else None

    @property
    def area_S(self) -> NDArray[np.float64] | None:
        curves = self.all_of(UTILITY)
        return np.array([measure.area_under_curve(curve) for curve in curves]) if curves else None

    @property
    def collapse(self) -> Collapse | None:
        return collapse_of(self.curves_S)


def stability(runs: Sequence[Run], baseline: str | None = None, utility: float | None = None) -> list[StabilityReport]:
    """One report for each `Data`, those without any training log included (they have no rows).

    `baseline` is a router, or `router@settings_hash`; None takes `TRAINING_BASELINE` if it was run. `utility` is the
    target of `steps_to_target`; None: where the baseline's mean validation curve ends. Raises RunError where no run
    keeps a training log, or a named baseline has none.
    """
    logged = [run for run in runs if has_log(run)]
    if not logged:
        raise RunError(
            "no run here keeps a complete training log: run a router that is trained, "
            f"e.g. `recal-bench run --router {TRAINING_BASELINE}`"
        )
    return [_report(group, baseline, utility) for group in same_data(runs)]


def _report(runs: list[Run], baseline_name: str | None, utility: float | None) -> StabilityReport:
    data = runs[0].record.configuration.data
    logged = [run for run in runs if has_log(run)]
    notes = _notes(runs, logged)
    if not logged:
        return StabilityReport(data, None, utility, (), (), tuple(notes))
    (group,) = read_groups(logged)
    notes += [note for note in group.notes if note not in data.notes]
    baseline_entry = _baseline(group, baseline_name, notes)
    trained = [_Trained(entry, _final(group, entry), tuple(map(curves_of, entry.runs))) for entry in group.entries]
    baseline = next((each for each in trained if each.entry is baseline_entry), None)
    name = None if baseline is None else baseline_name or TRAINING_BASELINE
    ends = baseline.all_of(UTILITY) if baseline else None
    target = utility if utility is not None else float(measure.mean_curve(ends).value_N[-1]) if ends else None
    rows = [(_row(group, each, baseline, name, target, utility), each.curves_S) for each in trained]
    rows.sort(key=lambda pair: (_last(pair[0]), pair[0].router, pair[0].settings_hash))
    unjudged = [each for each in trained if each.collapse is None]
    if any(each.all_of(UTILITY) for each in unjudged):
        notes.append(f"collapse is unknown where a log lacks {BEST_SINGLE} (written by an older version)")
    notes += prior_notes([(each.entry.router, gains_of(each.curves_S)) for each in trained])
    if blind := ", ".join(sorted({each.entry.router for each in unjudged if not each.all_of(UTILITY)})):
        notes.append(f"no curve of utility on validation is kept by {blind}: only where they ended is judged")
    if data.logged:
        notes.append("a log of single choices: utility on test is estimated (SNIPS, over queries)")
    return StabilityReport(
        data, name, target, tuple(row for row, _ in rows), tuple(curves for _, curves in rows), tuple(notes)
    )


def _last(row: StabilityRow) -> float:
    return np.inf if row.final_utility is None else -row.final_utility


def _notes(runs: Sequence[Run], logged: Sequence[Run]) -> list[str]:
    notes = []
    torn = [run for run in runs if is_torn(run)]
    there = {run.record.configuration.router for run in [*logged, *torn]}
    absent = {run.record.configuration.router for run in runs if not run.record.reference} - there
    if absent:
        notes.append(f"left out, since they keep no training log: {', '.join(sorted(absent))}")
    if torn:
        notes.append(f"left out, since the training log is damaged: {', '.join(run.folder.name for run in torn)}")
    if any(run.record.configuration.data.unknown_costs for run in logged):
        notes.append("some costs are unknown: test figures are accuracy, and validation utility is the score")
    return notes


def _baseline(group: Group, name: str | None, notes: list[str]) -> Entry | None:
    if name is not None:
        found = group.find(name)
        if found is None:
            there = ", ".join(sorted({entry.router for entry in group.entries}))
            raise RunError(
                f"baseline {name} has no training log on {group.data.name} (alpha {group.data.alpha:g}): "
                f"choose one of {there}"
            )
        return found
    try:
        return group.find(TRAINING_BASELINE)
    except RecalBenchError as error:
        notes.append(f"no baseline: {error}")
        return None


def _final(group: Group, entry: Entry) -> NDArray[np.float64]:
    """The macro mean on test of every seed, in the metric that its row is ranked by; empty without test queries.

    Of a log of single choices it is estimated.
    """
    if group.logged is not None:
        return seed_estimates(group, entry, "test")
    test_Q = group.split_Q == "test"
    if not test_Q.any():
        return np.zeros(0)
    value_SQ = getattr(entry, METRICS[headline_metrics(group, entry, test_Q)[0]])
    return np.asarray(metrics.macro_mean(value_SQ[:, test_Q], group.task_Q[test_Q]))


def _row(
    group: Group,
    trained: _Trained,
    baseline: _Trained | None,
    baseline_name: str | None,
    target: float | None,
    utility: float | None,
) -> StabilityRow:
    data, entry = group.data, trained.entry
    curves, spread, fate = trained.all_of(UTILITY), measure.seed_sd(trained.final_S), trained.collapse
    gains = gains_of(trained.curves_S)
    steps_to_target = seeds_at_target = None
    if curves and target is not None:
        steps_to_target = measure.steps_to(measure.mean_curve(curves), target)
        seeds_at_target = sum(measure.steps_to(curve, target) is not None for curve in curves)
    return StabilityRow(
        router=entry.router,
        settings=entry.record.configuration.shown_settings,
        settings_hash=entry.settings_hash,
        outcomes=data.name,
        data_hash=data.hash,
        alpha=data.alpha,
        simulated=data.simulated,
        baseline=baseline_name,
        n_seeds=len(entry.seeds),
        test_mean=finite_or_none(float(trained.final_S.mean())) if len(trained.final_S) else None,
        seed_sd=finite_or_none(spread.value),
        seed_sd_ci=_bounds(spread),
        final_utility=trained.mean(UTILITY, lambda curve: float(curve.value_N[-1])),
        area_under_curve=None if trained.area_S is None else finite_or_none(float(trained.area_S.mean())),
        detrended_iqr=trained.mean(UTILITY, measure.detrended_iqr),
        max_drawdown=trained.mean(UTILITY, measure.max_drawdown),
        target_utility=target,
        steps_to_target=steps_to_target,
        seeds_at_target=seeds_at_target,
        collapse_rate=None if fate is None else fate.rate,
        collapsed=None if fate is None else fate.collapsed,
        never_gained=None if fate is None else fate.never_gained,
        kept_step=None if gains is None else float(np.mean([step for step, _, _ in gains])),
        gain_over_prior=None if gains is None else float(np.mean([gain for _, gain, _ in gains])),
        adds_nothing=None if gains is None else sum(measure.adds_nothing(*each) for each in gains),
        gradient_tail=trained.mean("gradient_norm", measure.tail_ratio),
        gradient_spikes=trained.mean("gradient_norm", lambda curve: float(measure.is_spike(curve).sum())),
        gradient_spike_share=trained.mean("gradient_norm", lambda curve: float(measure.is_spike(curve).mean())),
        entropy_ratio=trained.mean("entropy", measure.entropy_ratio),
        groups_without_spread=trained.mean("groups_without_spread", lambda curve: float(curve.value_N.mean())),
        top_arm_share=trained.mean("top_arm_share", measure.at_end),
        vs_baseline=_versus(trained, baseline, utility) if baseline and baseline is not trained else None,
    )


def _versus(trained: _Trained, baseline: _Trained, utility: float | None) -> Versus:
    # Routers trained with the same seeds may share their luck (start, batches): then seeds are paired.
    paired = trained.entry.seeds == baseline.entry.seeds
    found: dict[str, Bounded] = {"sd_ratio": measure.sd_ratio(trained.final_S, baseline.final_S)}
    curves, of_baseline = trained.all_of(UTILITY), baseline.all_of(UTILITY)
    if curves and of_baseline:
        found["steps_ratio"] = measure.steps_ratio(curves, of_baseline, utility, paired)
    if trained.area_S is not None and baseline.area_S is not None:
        found["area_difference"] = measure.mean_difference(trained.area_S, baseline.area_S, paired)
    if trained.collapse and baseline.collapse:
        found["collapse_difference"] = measure.collapse_difference(trained.collapse, baseline.collapse)
    values: dict[str, Any] = dict.fromkeys(Versus.model_fields)
    for name, estimate in found.items():
        values |= {name: finite_or_none(estimate.value), f"{name}_ci": _bounds(estimate)}
    return Versus(**values)


def _bounds(estimate: Bounded) -> Bounds | None:
    """Null where there is no interval; a null bound where that side is open."""
    return None if np.isnan(estimate.low) else (finite_or_none(estimate.low), finite_or_none(estimate.high))
