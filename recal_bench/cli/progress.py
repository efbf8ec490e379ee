"""Progress on stderr with the time that is left: on a terminal alone, nothing where it goes elsewhere."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from recal_bench.wording import counted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import Progress

    from recal_bench.experiments.plans import RunPlan


@contextmanager
def progress_bars() -> Iterator[Progress]:
    """Bars, and one of their own for long encodings while they last."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from recal_bench.encoders.watching import watched

    columns = (
        *(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[detail]}")),
        *(TimeElapsedColumn(), TextColumn("left:"), TimeRemainingColumn()),
    )
    # Not what rich takes for a terminal: that is anything where FORCE_COLOR is set.
    shown = sys.stderr.isatty()
    bars = Progress(*columns, console=Console(stderr=True), transient=True, disable=not shown)
    with bars as progress, watched(counter(progress, "encoding", "prompts")):
        yield progress


def counter(progress: Progress, description: str, things: str) -> Callable[[int, int], None]:
    """Shows how many things are done, and of how many, by a bar that lasts until they all are."""
    bars = list[Any]()

    def tell(done: int, total: int) -> None:
        if not bars:
            bars.append(progress.add_task(description, total=total, detail=""))
        progress.update(bars[0], total=total, completed=done, detail=f"{done:,} of {total:,} {things}")
        if done >= total:
            progress.remove_task(bars.pop())

    return tell


class RunBar:
    """One bar for the seeds of several plans. A seed that is being trained counts by the share of its steps."""

    def __init__(self, progress: Progress, plans: list[RunPlan]) -> None:
        self._progress = progress
        self._bar = progress.add_task("", total=sum(len(plan.seeds) for plan in plans), detail="")
        self._before = self._of_plan = self._done = self._at_once = 0
        self._shown = 0.0
        self._steps: Any = None

    def begin(self, plan: RunPlan) -> None:
        from recal_bench import routers

        # What a refused plan left undone counts as done.
        self._before += self._of_plan
        self._of_plan, self._done = len(plan.seeds), 0
        self._at_once = len(plan.seeds) if hasattr(plan.router, "fit_seeds") else 1
        self._steps = routers.settings_of(plan.router).get("steps")
        what = f"{plan.name}, {counted(len(plan.seeds), 'seed')}"
        self._progress.update(self._bar, description=what)
        self._show(self._before, "")

    def step(self, line: dict[str, Any]) -> None:
        """Show a line of a training log."""
        step, steps = line.get("step"), self._steps
        if not isinstance(step, int) or not isinstance(steps, int) or steps <= 0:
            self._show(self._shown, "" if step is None else f"step {step}")
            return
        under_way = min(self._at_once, self._of_plan - self._done) * min(step / steps, 1.0)
        self._show(self._before + self._done + under_way, f"step {step:,} of {steps:,}")

    def seed(self) -> None:
        """Another seed is done, or was found."""
        self._done += 1
        self._show(self._before + self._done, "")

    def _show(self, completed: float, detail: str) -> None:
        # Seeds that were trained together are done one after the other: the bar does not go back for that.
        self._shown = max(self._shown, completed)
        self._progress.update(self._bar, completed=self._shown, detail=detail)

    def end(self) -> None:
        self._progress.remove_task(self._bar)
