"""What a reader of a table should know, as notes below it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from recal_bench.experiments.records import Configuration
from recal_bench.reporting.figures.entries import Group
from recal_bench.reporting.figures.external import external_notes
from recal_bench.reporting.figures.small_tasks import small_task_notes
from recal_bench.wording import listed

if TYPE_CHECKING:
    from recal_bench.reporting.figures.compare import Comparison


def notes(group: Group) -> list[str]:
    """What a reader of a group's figures should know."""
    notes = list(group.notes)
    if group.data.unknown_costs:
        notes.append(
            f"no utility is reported, since {group.data.unknown_costs:,} outcomes have no known cost: "
            "routers optimised the score, and rows are ranked and held against the baseline by accuracy"
        )
    elif group.data.cost_ref is None:
        notes.append("utility is the score: no outcome has a cost, or every cost on train is 0")
    configurations = [entry.record.configuration for entry in group.entries if not entry.record.reference]
    notes += _tuned_notes(configurations)
    alone = sorted({entry.router for entry in group.entries if entry.one_seed_of_many})
    if alone:
        notes.append(
            f"one training seed only: {', '.join(alone)}. Such an interval holds the luck of the queries, "
            "not that of training (--seeds 5 adds it)"
        )
    notes += external_notes(group)
    return notes + small_task_notes(group.task_Q[group.split_Q == "test"])


def _tuned_notes(configurations: Sequence[Configuration]) -> list[str]:
    """Whose settings were chosen on validation, and in how many trials; nothing where nobody's were."""
    trials = {each.router: each.tuned for each in configurations if each.tuned}
    if not trials:
        return []
    chosen = [
        f"{', '.join(sorted(router for router in trials if trials[router] == count))} ({count})"
        for count in sorted(set(trials.values()))
    ]
    plain = sorted({each.router for each in configurations if each.settings and not each.tuned})
    rest = f"; at their defaults or as given: {', '.join(plain)}" if plain else ""
    return [f"settings chosen on validation: {'; '.join(chosen)}{rest}"]


def expected_notes(rows: Sequence[Comparison], baseline: str) -> list[str]:
    """What expected utility is, and which rows have none; nothing where no truth is simulated."""
    if all(row.expected_utility is None for row in rows):
        return []
    notes = [
        "rows are ranked and compared by expected utility, the truth behind the simulated answers; utility is what the "
        "answers that were drawn gave, their luck included"
    ]
    without = sorted({row.router for row in rows if row.expected_utility is None})
    if without:
        notes.append(
            f"no expected utility is known of {listed(without)} (several calls a query, or a record of an older "
            f"version): held against {baseline} by utility"
        )
    return notes


def iqm_notes(rows: Sequence[Comparison], n_tasks: int) -> list[str]:
    """What an interquartile mean leaves out, which for a router of one seed are tasks."""
    if all(row.iqm is None for row in rows):
        return []
    notes = [
        "IQM is the mean of what is left of all seeds' task means without the lowest and the highest quarter; "
        "rows are ranked by it, every other figure is a mean"
    ]
    alone = sorted({row.router for row in rows if row.n_seeds == 1 and not row.reference})
    if alone:
        cut = n_tasks // 4
        count = f"{n_tasks} task" + ("s" if n_tasks != 1 else "")
        what = f"leaves out {2 * cut} of them" if cut else "is the plain mean"
        notes.append(f"with one seed and {count} the IQM {what} ({', '.join(alone)} and the references)")
    return notes


def latency_notes(rows: Sequence[Comparison]) -> list[str]:
    """Of how many queries the latency is known, where it is not that of all."""
    known = [row.latency_known for row in rows if row.latency_known is not None]
    if not known or min(known) == 1:
        return []
    ends = sorted({f"{100 * min(known):.1f}%", f"{100 * max(known):.1f}%"}, key=lambda end: float(end[:-1]))
    return [f"latencies are means over the queries where they are known: {' to '.join(ends)}, by row"]


def detectable_notes(rows: Sequence[Comparison], baseline: str) -> list[str]:
    """The smallest differences that the test can be expected to find, from the least to the greatest."""
    found = [(row.vs_baseline or row.accuracy_vs_baseline, row.router) for row in rows]
    sizes = sorted((each.mde, router, each.metric) for each, router in found if each and each.mde is not None)
    if not sizes:
        return []
    metric = sizes[0][2]
    ends = [f"±{100 * size:.2f} points" if metric == "accuracy" else f"±{size:.3f}" for size, _, _ in sizes]
    shown = ends[0] if ends[0] == ends[-1] else f"{ends[0]} ({sizes[0][1]}) to {ends[-1]} ({sizes[-1][1]})"
    return [
        f"the smallest difference of {metric} to {baseline} that these seeds and queries can tell "
        f"(MDE: found with 80% power by one two-sided test at 5%) is {shown}"
    ]
