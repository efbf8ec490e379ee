"""The columns of the tables: for each its header, when the terminal drops it, and its cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from recal_bench.reporting.figures.compare import Comparison
from recal_bench.reporting.figures.differences import Difference, InterquartileMean
from recal_bench.reporting.figures.splits import Figures

UNKNOWN = "-"
LATENCY = "us med/p95"


@dataclass(frozen=True)
class TableColumn:
    """`rank`: the terminal leaves out the highest first, never 0. A column unknown in every row is never shown.

    `cell` is given the row, its figures on one split, and the digits of a utility.
    """

    header: str
    rank: int
    cell: Callable[[Comparison, Figures, int], str]


def number(value: float | None, spec: str, scale: float = 1, suffix: str = "") -> str:
    if value is None:
        return UNKNOWN
    shown = format(value * scale, spec)
    return (shown.removeprefix("-") if not shown.strip("-0.") else shown) + suffix


def with_interval(value: float | None, ci: tuple[float, float] | None, spec: str, scale: float = 1) -> str:
    """`value [low, high]`, as many digits in each."""
    shown = number(value, spec, scale)
    return shown if ci is None else f"{shown} [{ci[0] * scale:{spec}}, {ci[1] * scale:{spec}}]"


def _difference(row: Comparison, found: Difference | None, spec: str, scale: float = 1) -> str:
    if found is None:
        return "baseline" if row.is_baseline else UNKNOWN
    return with_interval(found.difference, found.ci, spec, scale)


def _p(found: Difference | InterquartileMean | None) -> str:
    return p_value(None if found is None else found.p_adjusted)


def p_value(p: float | None) -> str:
    """Three digits, and never a 0."""
    return UNKNOWN if p is None else "<.001" if p < 0.001 else f"{p:.3f}"


def _mde(found: Difference | None, spec: str, scale: float = 1) -> str:
    return UNKNOWN if found is None else number(found.mde, spec, scale)


def _iqm(found: InterquartileMean | None, digits: int) -> str:
    return UNKNOWN if found is None else with_interval(found.value, found.ci, *_precision(found, digits))


def _iqm_difference(row: Comparison, figures: Figures, digits: int) -> str:
    found = figures.iqm
    if found is None or found.difference is None:
        return _difference(row, None, "")
    spec, scale = _precision(found, digits)
    return with_interval(found.difference, found.difference_ci, "+" + spec, scale)


def _precision(found: InterquartileMean, digits: int) -> tuple[str, float]:
    return (".2f", 100) if found.metric == "accuracy" else (f".{digits}f", 1)


def _improvement(found: Difference | None) -> str:
    return UNKNOWN if found is None else with_interval(found.p_improvement, found.p_improvement_ci, ".2f")


def _usd(figures: Figures) -> str:
    own = figures.router_cost_usd_per_1k
    return number(figures.cost_usd_per_1k, "#.4g") + (f" +{own:#.3g}" if own else "")


def _qnc(figures: Figures) -> str:
    """Of routers that were swept but have no mean, the share of seeds that reach the best arm's accuracy at all."""
    if figures.qnc is not None or figures.qnc_reached is None:
        return number(figures.qnc, ".2f")
    return f"{100 * figures.qnc_reached:.0f}% of seeds" if figures.qnc_reached else "never"


def _rank(figures: Figures) -> str:
    """The range of ranks, behind `=` where the router cannot be told from the best."""
    if figures.rank is None:
        return UNKNOWN
    low, high = figures.rank
    return ("=" if figures.tie_group else "") + (f"{low}" if low == high else f"{low}-{high}")


def _latency(row: Comparison) -> str:
    if row.route_us_per_query is None:
        return UNKNOWN
    return f"{row.route_us_per_query:,.0f}/{number(row.route_us_p95, ',.0f')}"


def _arm_latency(figures: Figures) -> str:
    if figures.latency_mean_s is None:
        return UNKNOWN
    return f"{figures.latency_mean_s:.3g}/{number(figures.latency_p95_s, '.3g')}"


RANK = TableColumn("rank", 1, lambda row, f, digits: _rank(f))
UTILITY = (
    RANK,
    TableColumn("utility [95%]", 0, lambda row, f, digits: with_interval(f.utility, f.utility_ci, f".{digits}f")),
    TableColumn("vs BASELINE [95%]", 0, lambda row, f, digits: _difference(row, f.vs_baseline, f"+.{digits}f")),
    TableColumn("p", 1, lambda row, f, digits: _p(f.vs_baseline)),
    TableColumn("MDE", 5, lambda row, f, digits: _mde(f.vs_baseline, f".{digits}f")),
    TableColumn("P(utility > BASELINE)", 12, lambda row, f, digits: _improvement(f.vs_baseline)),
)
# Where the truth is simulated. Rows that lack an expected utility are held against the baseline by the utility.
EXPECTED = (
    RANK,
    TableColumn(
        "expected utility [95%]",
        0,
        lambda row, f, digits: with_interval(f.expected_utility, f.expected_utility_ci, f".{digits}f"),
    ),
    TableColumn("vs BASELINE [95%]", 0, lambda row, f, digits: _difference(row, f.vs_baseline, f"+.{digits}f")),
    TableColumn("p", 1, lambda row, f, digits: _p(f.vs_baseline)),
    TableColumn("utility [95%]", 3, lambda row, f, digits: with_interval(f.utility, f.utility_ci, f".{digits}f")),
    TableColumn("MDE", 5, lambda row, f, digits: _mde(f.vs_baseline, f".{digits}f")),
    TableColumn("P(expected utility > BASELINE)", 12, lambda row, f, digits: _improvement(f.vs_baseline)),
)
# Where no utility may be reported, accuracy is what is left to hold against the baseline.
ACCURACY = (
    RANK,
    TableColumn(
        "acc % vs BASELINE [95%]", 0, lambda row, f, digits: _difference(row, f.accuracy_vs_baseline, "+.2f", 100)
    ),
    TableColumn("p", 1, lambda row, f, digits: _p(f.accuracy_vs_baseline)),
    TableColumn("MDE, points", 5, lambda row, f, digits: _mde(f.accuracy_vs_baseline, ".2f", 100)),
    TableColumn("P(accuracy > BASELINE)", 12, lambda row, f, digits: _improvement(f.accuracy_vs_baseline)),
)
IQM = (
    TableColumn("IQM of METRIC [95%]", 0, lambda row, f, digits: _iqm(f.iqm, digits)),
    TableColumn("IQM vs BASELINE [95%]", 0, _iqm_difference),
    TableColumn("p", 1, lambda row, f, digits: _p(f.iqm)),
    TableColumn("utility", 1, lambda row, f, digits: number(f.utility, f".{digits}f")),
)
OTHERS = (
    TableColumn("acc %", 1, lambda row, f, digits: number(f.accuracy_macro, ".2f", 100)),
    TableColumn("micro", 8, lambda row, f, digits: number(f.accuracy_micro, ".2f", 100)),
    TableColumn("USD/1k", 2, lambda row, f, digits: _usd(f)),
    TableColumn("savings", 4, lambda row, f, digits: number(f.savings, f".{digits - 3}f", 100, "%")),
    TableColumn("harm", 3, lambda row, f, digits: number(row.harm if f is row else None, ".0f", 100, "%")),
    TableColumn("AIQ", 5, lambda row, f, digits: number(f.aiq, f".{digits}f")),
    TableColumn("QNC", 6, lambda row, f, digits: _qnc(f)),
    TableColumn("deferral AUC", 11, lambda row, f, digits: number(f.deferral_auc, f".{digits}f")),
    TableColumn("gap", 3, lambda row, f, digits: number(f.gap_closed, f".{digits - 3}f", 100, "%")),
    TableColumn("regret", 7, lambda row, f, digits: number(f.regret, f".{digits}f")),
    TableColumn("new arm", 2, lambda row, f, digits: number(f.new_arm, ".0f", 100, "%")),
    TableColumn("top arm", 10, lambda row, f, digits: number(f.top_arm_share, ".0f", 100, "%")),
    TableColumn("seed SD", 5, lambda row, f, digits: number(f.seed_sd, f".{digits + 1}f")),
    TableColumn("arm s mean/p95", 9, lambda row, f, digits: _arm_latency(f)),
    TableColumn(LATENCY, 9, lambda row, f, digits: _latency(row)),
    TableColumn("seeds", 6, lambda row, f, digits: str(row.n_seeds)),
    TableColumn("collapsed", 13, lambda row, f, digits: number(row.collapse_rate, ".0f", 100, "%")),
)
