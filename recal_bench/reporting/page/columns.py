"""The columns of the page's tables: where a figure lies in a row, and how it is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

Cell: TypeAlias = "float | str | list[float] | None"
"""A figure; with an interval `[value, low, high]`."""


class PageColumn(NamedTuple):
    """`path` is the figure's dotted name in a row, `ci` that of its interval; `minor` columns are shown when asked.

    `form` says how a figure is written: `utility`, `difference` (with its sign), `percent`, `points` (a difference of
    accuracies), `usd`, `p`, `number`, `count`, `range` (its interval alone) or `text`.
    """

    path: str
    label: str
    form: str
    ci: str | None = None
    minor: bool = False


REPLAYED = (
    PageColumn("tie_group", "tie group", "text", minor=True),
    PageColumn("rank", "rank", "range"),
    PageColumn("expected_utility", "expected utility", "utility", "expected_utility_ci"),
    PageColumn("utility", "utility", "utility", "utility_ci"),
    PageColumn("vs_baseline.difference", "METRIC vs BASELINE", "difference", "vs_baseline.ci"),
    PageColumn("vs_baseline.p_adjusted", "p", "p"),
    PageColumn("accuracy_macro", "accuracy", "percent"),
    PageColumn("accuracy_vs_baseline.difference", "accuracy vs BASELINE", "points", "accuracy_vs_baseline.ci", True),
    PageColumn("accuracy_vs_baseline.p_adjusted", "p (accuracy)", "p", minor=True),
    PageColumn("accuracy_micro", "accuracy, micro", "percent", minor=True),
    PageColumn("cost_usd_per_1k", "USD per 1,000", "usd"),
    PageColumn("router_cost_usd_per_1k", "router's own USD", "usd", minor=True),
    PageColumn("latency_mean_s", "arms' latency, s", "number"),
    PageColumn("latency_p95_s", "arms' latency, p95, s", "number", minor=True),
    PageColumn("savings", "savings", "percent"),
    PageColumn("harm", "harm", "percent"),
    PageColumn("gap_closed", "gap closed", "percent", minor=True),
    PageColumn("regret", "regret", "utility"),
    PageColumn("aiq", "AIQ", "utility", "aiq_ci", True),
    PageColumn("qnc", "QNC", "number", "qnc_ci", True),
    PageColumn("deferral_auc", "deferral AUC", "utility", "deferral_auc_ci", True),
    PageColumn("vs_baseline.mde", "MDE", "utility", minor=True),
    PageColumn("vs_baseline.p_improvement", "P(better)", "number", "vs_baseline.p_improvement_ci", True),
    PageColumn("seed_sd", "seed SD", "utility", minor=True),
    PageColumn("collapse_rate", "collapsed", "percent", minor=True),
    PageColumn("new_arm", "new arm", "percent"),
    PageColumn("top_arm_share", "top arm", "percent", minor=True),
    PageColumn("routing_entropy", "routing entropy", "number", minor=True),
    PageColumn("n_seeds", "seeds", "count"),
)
LOGGED = (
    PageColumn("snips", "METRIC (SNIPS)", "utility"),
    PageColumn("dr", "DR", "utility"),
    PageColumn("ips", "IPS", "utility", minor=True),
    PageColumn("against_logged", "vs logged", "difference"),
    PageColumn("against_logged_p_adjusted", "p", "p"),
    PageColumn("against_baseline", "vs BASELINE", "difference"),
    PageColumn("accuracy", "accuracy", "percent"),
    PageColumn("cost_usd_per_1k", "USD per 1,000", "usd"),
    PageColumn("effective_queries", "effective queries", "count"),
    PageColumn("matched", "matched", "percent"),
    PageColumn("refusal", "why not", "text"),
    PageColumn("n_seeds", "seeds", "count"),
)
STABILITY = (
    PageColumn("test_mean", "utility on test", "utility"),
    PageColumn("seed_sd", "seed SD", "utility", "seed_sd_ci"),
    PageColumn("final_utility", "validation utility at the end", "utility"),
    PageColumn("gain_over_prior", "gain over prior", "difference"),
    PageColumn("adds_nothing", "seeds that add nothing", "count"),
    PageColumn("kept_step", "kept step", "count"),
    PageColumn("steps_to_target", "steps to target", "count"),
    PageColumn("max_drawdown", "drawdown", "utility"),
    PageColumn("detrended_iqr", "detrended IQR", "utility"),
    PageColumn("collapse_rate", "collapsed", "percent"),
    PageColumn("gradient_tail", "gradient tail", "number"),
    PageColumn("gradient_spikes", "gradient spikes", "number"),
    PageColumn("entropy_ratio", "entropy kept", "number"),
    PageColumn("groups_without_spread", "groups without spread", "percent"),
    PageColumn("top_arm_share", "top arm", "percent"),
    PageColumn("vs_baseline.sd_ratio", "SD ratio", "number", "vs_baseline.sd_ratio_ci"),
    PageColumn("vs_baseline.area_difference", "area vs BASELINE", "difference", "vs_baseline.area_difference_ci"),
    PageColumn("n_seeds", "seeds", "count"),
)


def filled(columns: Sequence[PageColumn], rows: Iterable[Mapping[str, Any]]) -> list[PageColumn]:
    """The columns that some row has a figure for."""
    rows = list(rows)
    return [column for column in columns if any(cell(column, row) is not None for row in rows)]


def cell(column: PageColumn, row: Mapping[str, Any]) -> Cell:
    """A row's figure in a column; null where it is unknown."""
    found: Any = _at(row, column.path)
    ci: Any = _at(row, column.ci) if column.ci else None
    if isinstance(found, Mapping):
        found, ci = found.get("value"), found.get("ci")
    if column.form == "range":
        return None if not found else [float(found[0]), *map(float, found)]
    if found is None or isinstance(found, str):
        return found
    if column.form == "text":
        return str(found)
    return float(found) if ci is None or None in ci else [float(found), float(ci[0]), float(ci[1])]


def _at(row: Mapping[str, Any], path: str) -> Any:
    found: Any = row
    for name in path.split("."):
        if not isinstance(found, Mapping):
            return None
        found = found.get(name)
    return found
