"""What routers did on one split: the figures of all entries of a group, held against one baseline."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recal_bench.arrays import FloatSQ, finite_or_none
from recal_bench.defaults import BASELINE, COST_FLOOR, SAVINGS_TARGET, UPPER_BOUND
from recal_bench.evaluation import metrics
from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.reporting.figures.constraints import ConstraintFigures, constraint_figures
from recal_bench.reporting.figures.differences import (
    ACCURACY,
    EXPECTED,
    UTILITY,
    Difference,
    InterquartileMean,
    ci_of,
    differences,
    headline_metrics,
    interquartile_means,
    scale_of,
)
from recal_bench.reporting.figures.entries import Entry, Group
from recal_bench.reporting.figures.frontier import FrontierFigures, frontier_figures
from recal_bench.reporting.figures.ranks import ranked


class Figures(FrontierFigures):
    """What a router did on one split; docs/metrics.md defines every figure. Null where unknown.

    `vs_baseline` is in the metric that it names: the expected utility where the truth is simulated and known of the
    row, else the utility. `utility_vs_baseline` is the realised one beside an expected one, else null. `tie_group` is
    `best` for the routers that cannot be told from the best, and `rank` the least and the greatest rank a router may
    have; null for references. The latencies are those of the arms, micro means over the `latency_known` share.
    """

    n_queries: int
    tie_group: str | None = None
    rank: tuple[int, int] | None = None
    accuracy_macro: float | None
    accuracy_macro_ci: tuple[float, float] | None = None
    accuracy_micro: float | None
    cost_usd_per_1k: float | None
    router_cost_usd_per_1k: float | None
    total_cost_usd_per_1k: float | None = None
    total_cost_usd_per_1k_ci: tuple[float, float] | None = None
    savings: float | None
    utility: float | None
    utility_ci: tuple[float, float] | None
    expected_utility: float | None = None
    expected_utility_ci: tuple[float, float] | None = None
    vs_baseline: Difference | None
    utility_vs_baseline: Difference | None = None
    iqm: InterquartileMean | None
    accuracy_vs_baseline: Difference | None
    gap_closed: float | None
    regret: float | None
    top_arm_share: float
    routing_entropy: float
    new_arm: float | None = None
    seed_sd: float | None
    latency_mean_s: float | None = None
    latency_p95_s: float | None = None
    latency_known: float | None = None
    constraint: ConstraintFigures | None = None

    @property
    def headline(self) -> tuple[float | None, tuple[float, float] | None]:
        """What rows are ranked by, with its interval: expected utility, utility, or at last accuracy."""
        if self.expected_utility is not None:
            return self.expected_utility, self.expected_utility_ci
        return (self.accuracy_macro, None) if self.utility is None else (self.utility, self.utility_ci)


def split_figures(group: Group, split: str, baseline: Entry, with_iqm: bool = False) -> list[Figures]:
    """The figures of every entry on one split; interquartile means only where asked, since they take a bootstrap."""
    rows_Q = group.split_Q == split
    # Tasks as numbers: grouping by text would be most of the work.
    task_Q = np.unique(group.task_Q[rows_Q], return_inverse=True)[1]
    gap_start, gap_end = (_macro(group.find(name), "utility_SQ", rows_Q, task_Q) for name in (BASELINE, UPPER_BOUND))
    target, *others = (_point(group.find(name), rows_Q, task_Q) for name in (SAVINGS_TARGET, BASELINE, COST_FLOOR))
    singles = [point for point in others if point is not None]
    metric_R = headline_metrics(group, baseline, rows_Q)
    by_headline, by_utility, by_accuracy = (
        differences(group, baseline, metrics_R, rows_Q, task_Q)
        for metrics_R in (
            [UTILITY if metric == ACCURACY else metric for metric in metric_R],
            [UTILITY] * len(metric_R),
            [ACCURACY] * len(metric_R),
        )
    )
    iqms: list[InterquartileMean | None] = [None] * len(group.entries)
    if with_iqm:
        # One metric for all: the expected utility only where it is known of every row.
        metric = metric_R[0] if len(set(metric_R)) == 1 else UTILITY
        iqms = interquartile_means(group, baseline, metric, rows_Q, task_Q)
    places = ranked(group, metric_R, rows_Q, task_Q)
    scale = scale_of(group, "utility")
    figures = []
    for index, entry in enumerate(group.entries):
        score_SQ, utility_SQ = entry.score_SQ[:, rows_Q], entry.utility_SQ[:, rows_Q]
        on_expected = metric_R[index] == EXPECTED
        expected = crossed_interval([entry.expected_SQ[:, rows_Q]], task_Q) if on_expected else None
        accuracy, cost = _point(entry, rows_Q, task_Q) or (math.nan, math.nan)
        utility = crossed_interval([utility_SQ], task_Q)
        score = crossed_interval([score_SQ], task_Q)
        paid = crossed_interval([1000 * (entry.cost_SQ + entry.router_cost_SQ)[:, rows_Q]], task_Q)
        gap_known = not any(math.isnan(value) for value in (utility.estimate, gap_start, gap_end))
        seed_utility_S = metrics.macro_mean(entry.expected_SQ[:, rows_Q] if on_expected else utility_SQ, task_Q)
        arm_SQ = entry.arm_SQ[:, rows_Q]
        figures.append(
            Figures(
                n_queries=int(rows_Q.sum()),
                tie_group=places[index].tie_group,
                rank=places[index].rank,
                accuracy_macro=finite_or_none(accuracy),
                accuracy_macro_ci=ci_of(score, scale_of(group, ACCURACY)),
                accuracy_micro=finite_or_none(float(metrics.micro_mean(score_SQ).mean())),
                cost_usd_per_1k=finite_or_none(1000 * _macro(entry, "cost_SQ", rows_Q, task_Q)),
                router_cost_usd_per_1k=finite_or_none(1000 * _macro(entry, "router_cost_SQ", rows_Q, task_Q)),
                total_cost_usd_per_1k=finite_or_none(paid.estimate),
                total_cost_usd_per_1k_ci=ci_of(paid, (0.0, math.inf)),
                savings=metrics.savings(accuracy, cost, *target, singles) if target else None,
                utility=finite_or_none(utility.estimate),
                utility_ci=ci_of(utility, scale),
                expected_utility=expected and expected.estimate,
                expected_utility_ci=expected and ci_of(expected, scale),
                vs_baseline=by_headline[index],
                utility_vs_baseline=by_utility[index] if on_expected else None,
                iqm=iqms[index],
                accuracy_vs_baseline=by_accuracy[index],
                gap_closed=metrics.gap_closed(utility.estimate, gap_start, gap_end) if gap_known else None,
                regret=finite_or_none(_macro(entry, "regret_SQ", rows_Q, task_Q)),
                top_arm_share=float(np.mean([metrics.top_arm_share(arm_Q) for arm_Q in arm_SQ])),
                routing_entropy=float(np.mean([metrics.routing_entropy(arm_Q) for arm_Q in arm_SQ])),
                new_arm=float(np.isin(arm_SQ, group.data.held_out).mean()) if entry.record.adapted else None,
                seed_sd=finite_or_none(float(seed_utility_S.std(ddof=1))) if len(seed_utility_S) > 1 else None,
                **_latency(entry.latency_SQ[:, rows_Q]),
                constraint=constraint_figures(entry.runs, paid, score, scale_of(group, ACCURACY)),
                **dict(frontier_figures(entry.runs, split)),
            )
        )
    return figures


def _latency(latency_SQ: FloatSQ) -> dict[str, Any]:
    """Mean and 95th percentile over the queries of all seeds whose latency is known, and the share of these."""
    known = latency_SQ[np.isfinite(latency_SQ)]
    if not len(known):
        return {}
    return {
        "latency_mean_s": float(known.mean()),
        "latency_p95_s": float(np.percentile(known, 95)),
        "latency_known": len(known) / latency_SQ.size,
    }


def _macro(entry: Entry | None, name: str, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> float:
    """The mean over seeds of a column's macro mean; NaN where a value is unknown or there is no such entry."""
    return math.nan if entry is None else float(metrics.macro_mean(getattr(entry, name)[:, rows_Q], task_Q).mean())


def _point(entry: Entry | None, rows_Q: NDArray[np.bool_], task_Q: NDArray[Any]) -> tuple[float, float] | None:
    """Accuracy and cost in USD per query, the router's own included."""
    if entry is None:
        return None
    costs = (_macro(entry, name, rows_Q, task_Q) for name in ("cost_SQ", "router_cost_SQ"))
    return _macro(entry, "score_SQ", rows_Q, task_Q), sum(costs)
