"""Failure modes of a training, read off its log: reward design as debugging (the idea of arXiv 2605.28918).

Each mode is a function of the log's columns that returns a finding or None. Arrays in, findings out; docs/stability.md
says what the modes mean and why the thresholds are what they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from recal_bench.evaluation.advice import Settings
from recal_bench.evaluation.findings import Finding, LogColumns
from recal_bench.evaluation.learning_modes import (
    entropy_collapse,
    nothing_added,
    one_arm,
    overfitting,
    score_collapse,
    unstable_steps,
)
from recal_bench.evaluation.reward_modes import (
    cost_hacking,
    dominant_task,
    format_stuck,
    no_signal,
    reward_flooding,
    starved_component,
)


class Diagnosis(NamedTuple):
    """What was found, and the modes that the log lacks the columns for."""

    findings: tuple[Finding, ...]
    not_judged: tuple[str, ...]


def diagnose(columns: LogColumns, settings: Settings | None = None) -> Diagnosis:
    """All failure modes that a training log shows, the likely causes first.

    `settings` are the router's, all of them: what is on already is not advised.
    """
    findings, not_judged = [], []
    for name, (mode, needed) in MODES.items():
        if not all(_has(columns, column) for column in needed):
            not_judged.append(name)
        elif (found := mode(columns, settings)) is not None:
            findings.append(found)
    return Diagnosis(tuple(findings), tuple(not_judged))


def _has(columns: LogColumns, name: str) -> bool:
    """Whether there is such a column; one for any part where the name ends in a slash."""
    return any(column.startswith(name) for column in columns) if name.endswith("/") else name in columns


_Mode: TypeAlias = Callable[[LogColumns, Settings | None], Finding | None]
_COMPONENTS = ("component_mean/outcome", "component_mean/format")
# Causes come before what they lead to. A mode is judged where the log has the columns it needs.
MODES: dict[str, tuple[_Mode, tuple[str, ...]]] = {
    "no signal": (no_signal, ("entropy", "groups_without_spread", "malformed_share")),
    "starved component": (starved_component, ("spread_share/", "component_mean/")),
    "format stuck": (format_stuck, ("malformed_share", "learning_rate")),
    "one task dominates": (dominant_task, ("update_share/", "batch_share/", "groups_without_spread")),
    "cost hacking": (cost_hacking, ("validation_cheapest_share", "validation_utility")),
    "overfitting": (overfitting, (*_COMPONENTS, "validation_score", "learning_rate")),
    "reward flooding": (reward_flooding, (*_COMPONENTS, "reward", "validation_utility")),
    "training adds nothing to its prior": (
        nothing_added,
        ("kept_step", "kept_gain", "kept_gain_error", "validation_utility", "learning_rate"),
    ),
    "unstable steps": (unstable_steps, ("validation_utility", "gradient_norm", "learning_rate")),
    "entropy collapse": (entropy_collapse, ("entropy", "validation_utility", "learning_rate")),
    "collapse to one arm": (one_arm, ("validation_top_arm_share", "validation_utility", "learning_rate")),
    "collapse of the score": (score_collapse, ("validation_utility", "validation_best_single", "learning_rate")),
}
