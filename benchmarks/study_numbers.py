"""Numbers of the calibration study: utilities and their differences over several worlds, and steadiness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from recal_bench.evaluation import metrics, stability
from recal_bench.evaluation.stability import Bounded, Collapse
from recal_bench.evaluation.statistics import Interval, crossed_interval, holm, t_interval
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.entries import Entry, Group, read_groups
from recal_bench.reporting.figures.training_logs import BEST_SINGLE, UTILITY, Curves, evaluations_of

TEST = "test"


@dataclass(frozen=True)
class Entries:
    """The routers of one part, one group for each world (a log has one)."""

    groups: tuple[Group, ...]
    names: tuple[str, ...]
    trained: tuple[str, ...]

    def of(self, name: str) -> list[Entry]:
        """The router's entry of every world."""
        return [entry for group in self.groups if (entry := group.find(name)) is not None]


class Steadiness(NamedTuple):
    """Seed SD within worlds; the ratios and differences to a baseline; how many seeds collapsed."""

    sd: float
    versus: tuple[Bounded, Bounded, Bounded, Bounded]
    collapsed: str


def entries_of(runs: Sequence[Run]) -> Entries:
    groups = tuple(read_groups(runs))
    names = tuple(entry.router for entry in groups[0].entries)
    trained = tuple(entry.router for entry in groups[0].entries if UTILITY in evaluations_of(entry.runs[0]))
    return Entries(groups, names, trained)


def utility(entries: Entries, name: str) -> Interval:
    """Macro utility on test, the mean over the worlds; the expected one where the truth is simulated."""
    column = _column(entries, name)
    return mean_of([_interval(group, name, None, column, None) for group in entries.groups])


def difference(entries: Entries, name: str, baseline: str) -> Interval:
    """Difference of `utility` to a baseline, the mean over the worlds."""
    column = _column(entries, name, baseline)
    return mean_of([_interval(group, name, baseline, column, None) for group in entries.groups])


def worlds_above(entries: Entries, name: str, baseline: str) -> str:
    """In how many of the worlds the difference of `utility` to a baseline is above 0."""
    column = _column(entries, name, baseline)
    found = [_interval(group, name, baseline, column, None).estimate for group in entries.groups]
    return f"{sum(each > 0 for each in found)}/{len(found)}"


def _column(entries: Entries, *names: str) -> str:
    known = all(
        group.data.simulated and not np.isnan(_values(group, name, "expected_SQ", group.split_Q == TEST)).any()
        for group in entries.groups
        for name in names
    )
    return "expected_SQ" if known else "utility_SQ"


def accuracy_difference(entries: Entries, name: str, baseline: str | None, tasks: Sequence[str]) -> Interval:
    """Mean accuracy over some tasks, of whatever split; or the difference to a baseline."""
    return mean_of([_interval(group, name, baseline, "score_SQ", tasks) for group in entries.groups])


def _interval(group: Group, name: str, baseline: str | None, column: str, tasks: Sequence[str] | None) -> Interval:
    rows_Q = group.split_Q == TEST if tasks is None else np.isin(group.task_Q.astype(str), list(tasks))
    values = [_values(group, each, column, rows_Q) for each in ([name] if baseline is None else [name, baseline])]
    if len(values) == 2 and len(values[0]) == len(values[1]):
        values = [values[0] - values[1]]
    elif len(values) == 2:
        values[1] = -values[1]
    return crossed_interval(values, group.task_Q[rows_Q])


def _values(group: Group, name: str, column: str, rows_Q: NDArray[np.bool_]) -> NDArray[np.float64]:
    entry = group.find(name)
    if entry is None:
        raise SystemExit(f"{name} has no run on {group.data.name}: run the study's part again")
    values: NDArray[np.float64] = getattr(entry, column)[:, rows_Q]
    return values


def mean_of(found: Sequence[Interval]) -> Interval:
    """Mean of independent estimates; the error's degrees of freedom by Satterthwaite."""
    if len(found) == 1:
        return found[0]
    square_W = np.array([each.error**2 for each in found])
    df = square_W.sum() ** 2 / (square_W**2 / np.array([each.df for each in found])).sum() if square_W.sum() else 1.0
    return t_interval(
        float(np.mean([each.estimate for each in found])), float(np.sqrt(square_W.sum())) / len(found), float(df)
    )


def holm_of(found: Sequence[Interval]) -> list[float]:
    return holm([each.p for each in found])


def validation_curves(entries: Entries, name: str) -> list[Curves]:
    """The evaluated lines of the logs of every world and seed."""
    return [evaluations_of(run) for entry in entries.of(name) for run in entry.runs]


def steadiness(entries: Entries, name: str, baseline: str) -> Steadiness:
    """Seeds of all worlds held against a baseline's, paired by world and seed."""
    logs, base_logs = validation_curves(entries, name), validation_curves(entries, baseline)
    curves, base_curves = ([log[UTILITY] for log in each] for each in (logs, base_logs))
    areas, base_areas = (
        np.array([stability.area_under_curve(curve) for curve in each]) for each in (curves, base_curves)
    )
    residual_N, base_residual_N = (_residuals(entries, each) for each in (name, baseline))
    collapse, base_collapse = (_collapse(each) for each in (logs, base_logs))
    # Where a baseline's curve ends is no target where it collapsed; its highest point is what it can keep.
    target = float(stability.mean_curve(base_curves).value_N.max())
    df = len(residual_N) - len(entries.groups)
    return Steadiness(
        sd=float(np.sqrt((residual_N**2).sum() / df)),
        versus=(
            stability.sd_ratio(residual_N, base_residual_N),
            stability.steps_ratio(curves, base_curves, target, paired=True),
            stability.mean_difference(areas, base_areas, paired=True),
            stability.collapse_difference(collapse, base_collapse),
        ),
        collapsed=f"{collapse.collapsed}/{collapse.seeds}",
    )


def _residuals(entries: Entries, name: str) -> NDArray[np.float64]:
    """Each seed's macro utility on test less its world's mean over the seeds."""
    parts, column = [], _column(entries, name)
    for group in entries.groups:
        rows_Q = group.split_Q == TEST
        macro_S = metrics.macro_mean(_values(group, name, column, rows_Q), group.task_Q[rows_Q])
        parts.append(macro_S - macro_S.mean())
    return np.concatenate(parts)


def _collapse(logs: Sequence[Curves]) -> Collapse:
    levels = [float(log[BEST_SINGLE].value_N[-1]) for log in logs]
    return stability.collapse([log[UTILITY] for log in logs], levels)
