"""Training logs of runs as event files, which TensorBoard shows and other trackers import."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recal_bench.errors import SettingsError
from recal_bench.experiments.records import Run

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

_EVENTS = "events.out.tfevents.*"


def require_tensorboard() -> type[SummaryWriter]:
    """What writes event files. Raises SettingsError, with the package that is needed, where there is none."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise SettingsError("--tensorboard needs the package tensorboard: pip install tensorboard") from error
    return SummaryWriter


def write_event_files(run: Run, folder: Path) -> Path | None:
    """Write the training log of a run below `folder`, in a folder of the run's name, instead of an earlier one.

    Every finite number of the log is a scalar of its column's name at its step. None for a run that keeps no log.
    """
    lines = [line for line in run.metrics() if _is_number(line.get("step"))]
    if not lines:
        return None
    target = folder / run.folder.name
    for path in target.glob(_EVENTS):
        path.unlink()  # TensorBoard would join both to one curve
    with require_tensorboard()(str(target)) as writer:
        for line in lines:
            for name, value in line.items():
                if name != "step" and _is_number(value):
                    writer.add_scalar(name, value, int(line["step"]))
    return target


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
