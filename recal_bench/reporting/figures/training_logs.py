"""Training logs of runs as curves."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias, TypeGuard

import numpy as np

from recal_bench.evaluation.stability import Collapse, Curve, adds_nothing, collapse
from recal_bench.experiments.records import Run, parse_line
from recal_bench.wording import counted

UTILITY = "validation_utility"
BEST_SINGLE = "validation_best_single"
KEPT = ("kept_step", "kept_gain", "kept_gain_error")
_EVALUATED = f'"{UTILITY}"'.encode()

Curves: TypeAlias = dict[str, Curve]
Gain: TypeAlias = tuple[float, float, float]
"""Of one seed the kept step, the gain of its policy on validation over the untrained one, and the standard error."""


def curves(lines: Iterable[Mapping[str, Any]]) -> Curves:
    """The columns of a log with one object a step, each where it was logged as a finite number."""
    columns: dict[str, dict[float, float]] = defaultdict(dict)
    for line in lines:
        for name, value in line.items():
            if name != "step" and _is_number(line.get("step")) and _is_number(value):
                columns[name][float(line["step"])] = float(value)
    return {
        name: Curve(np.array(sorted(at)), np.array([at[step] for step in sorted(at)])) for name, at in columns.items()
    }


def _is_number(value: Any) -> TypeGuard[float]:
    try:
        return isinstance(value, int | float) and math.isfinite(value)
    except OverflowError:  # a whole number of hundreds of digits
        return False


def curves_of(run: Run) -> Curves:
    """The columns of a run's training log; empty for a run that keeps none."""
    return curves(run.metrics())


def has_log(run: Run) -> bool:
    """Whether a run keeps a complete training log."""
    lines = run.metrics()
    return bool(lines) and not _is_short(run, lines)


def is_torn(run: Run) -> bool:
    """Whether the log ends before the run's last step."""
    return _is_short(run, run.metrics())


def evaluations_of(run: Run) -> Curves:
    """The columns of those lines that hold an evaluation; empty for a run that keeps no log, or a damaged one.

    Only these lines are parsed: comparing many runs would else be reading their logs.
    """
    path = run.folder / "metrics.jsonl"
    lines = path.read_bytes().splitlines() if path.exists() else []
    chosen = [line for number, line in enumerate(lines) if number in (0, len(lines) - 1) or _EVALUATED in line]
    parsed = [found for line in chosen if (found := parse_line(line)) is not None]
    return {} if len(parsed) < len(chosen) or _is_short(run, parsed) else curves(parsed)


def collapse_of(seeds: Sequence[Mapping[str, Curve]]) -> Collapse | None:
    """Collapsed seeds of one router, from each seed's columns; None where a log does not tell (older ones)."""
    if not seeds or not all(UTILITY in columns and BEST_SINGLE in columns for columns in seeds):
        return None
    levels = [float(columns[BEST_SINGLE].value_N[-1]) for columns in seeds]
    return collapse([columns[UTILITY] for columns in seeds], levels)


def gains_of(seeds: Sequence[Mapping[str, Curve]]) -> list[Gain] | None:
    """Of each seed the kept step, what its policy gained over the untrained one on validation, and the standard error.

    None where a log does not tell (older ones, and trainings without a prior policy).
    """
    if not seeds or not all(name in columns for columns in seeds for name in KEPT):
        return None
    last = [[float(columns[name].value_N[-1]) for name in KEPT] for columns in seeds]
    return [(step, gain, error) for step, gain, error in last]


def prior_notes(by_router: Iterable[tuple[str, list[Gain] | None]]) -> list[str]:
    """Whose training adds nothing to its prior, in most of its seeds: one line, nothing where nobody's does."""
    named = []
    for router, gains in by_router:
        nothing = sum(adds_nothing(*gain) for gain in gains or ())
        if gains and 2 * nothing > len(gains):
            mean = sum(gain for _, gain, _ in gains) / len(gains)
            named.append(f"{router} ({nothing} of {counted(len(gains), 'seed')}, {mean:+.4f})")
    if not named:
        return []
    return [
        f"training adds nothing to its prior: {', '.join(named)}. The kept policy gains no more on validation over the "
        "untrained one than a standard error"
    ]


def _is_short(run: Run, lines: Sequence[Mapping[str, Any]]) -> bool:
    steps = run.record.steps
    if steps is None:
        return False
    last = lines[-1].get("step") if lines else None
    return not _is_number(last) or last < steps
