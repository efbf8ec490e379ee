"""Whether routing can pay on some outcomes, as text."""

from __future__ import annotations

from recal_bench.evaluation.statistics import LEVEL
from recal_bench.experiments.signal import FoundSignal
from recal_bench.reporting.text.columns import p_value
from recal_bench.reporting.text.layout import filled, terminal_table
from recal_bench.toolbox.ceilings import Estimate
from recal_bench.toolbox.pairs import PERMUTATIONS
from recal_bench.toolbox.signal import Signal
from recal_bench.wording import counted, harmless

_MOST_TASKS = 20


def as_text(found: FoundSignal) -> str:
    """What tells the arms apart, what the best router could gain, the tasks, and what to make of it."""
    signal = found.signal
    title = (
        f"Signal: what tells {len(found.data.arms):,} arms apart in {found.what}, on {signal.queries:,} train and "
        f"validation queries of {counted(len(signal.tasks), 'task')} (encoder {found.encoder})"
    )
    shares = [["the text within a task, with endless queries", _percent(signal.within), p_value(signal.p)]]
    shares += [["the same, by a ridge regression on these queries", f"{round(signal.achieved, 3) + 0.0:.1%}", ""]]
    if signal.between is not None:
        shares.insert(0, ["the task", f"{signal.between:.1%}", ""])
    if signal.luck is not None:
        shares.append(["luck of the draw, from repeated draws of scores", f"{signal.luck:.1%}", ""])
    gains = [["the best single arm", _gain(signal.over_single)]]
    if signal.between is not None:
        gains.append(["the best arm of each task", _gain(signal.over_task)])
    parts = [
        filled(title),
        terminal_table(["of the variance of the differences between arms", "share", "p"], shares),
        terminal_table([f"the best router's gain over (in {found.what}, estimated)", "ceiling"], gains),
    ]
    if signal.between is not None:
        parts.append(_tasks(signal))
    return "\n\n".join([*parts, filled(_verdict(found)), *(filled(f"Note: {note}.") for note in found.notes)])


def _tasks(signal: Signal) -> str:
    shown = sorted(signal.tasks, key=lambda each: -each.share)[:_MOST_TASKS]
    lines = [
        [harmless(each.task), f"{each.queries:,}", f"{each.share:.1%} ± {each.error:.1%}", p_value(each.p)]
        for each in shown
    ]
    table = terminal_table(["task", "queries", "the text's share within it", "p"], lines)
    left_out = len(signal.tasks) - len(shown)
    return table + (f"\n({counted(left_out, 'task')} of a lower share not shown)" if left_out else "")


def _verdict(found: FoundSignal) -> str:
    signal = found.signal
    base = "the best single arm" if signal.between is None else "the best arm of each task"
    told = (
        f"Texts tell arms apart within tasks: the best router could gain about {_gain(signal.over_task)} over {base}"
        if signal.p <= 1 - LEVEL
        else f"No sign that texts tell arms apart within tasks: do not expect a router to beat {base}"
    )
    return (
        f"{told}. Ceilings are estimates for a linear model of this encoding with endless queries: another encoding "
        f"may tell more, a router fitted to these queries gains less. p: {PERMUTATIONS} permutations of the texts "
        "within tasks."
    )


def _percent(estimate: Estimate) -> str:
    return f"{estimate.value:.1%} [{estimate.low:.1%}, {estimate.high:.1%}]"


def _gain(estimate: Estimate) -> str:
    return f"{estimate.value:+.3f} [{estimate.low:+.3f}, {estimate.high:+.3f}]"
