"""What a reader should know of rows whose decisions were made elsewhere."""

from __future__ import annotations

import numpy as np

from recal_bench.reporting.figures.entries import Entry, Group
from recal_bench.toolbox.leaks import LeakAudit
from recal_bench.wording import counted, listed

_LEAST_P = 1e-6


def external_notes(group: Group) -> list[str]:
    """Whose decisions were made elsewhere, whose own cost is unknown, and whose follow the outcomes of test."""
    entries = [entry for entry in group.entries if entry.record.external]
    if not entries:
        return []
    notes = [
        f"not trained here, decisions taken as given: {listed([_named(entry) for entry in entries])}; of one set of "
        "decisions an interval holds the luck of the queries alone"
    ]
    unpriced = [entry.router for entry in entries if np.isnan(entry.router_cost_SQ).any()]
    if unpriced and group.data.cost_ref is not None:
        notes.append(
            f"the own cost of {listed(unpriced)} is not known, and not in its utility: give a column cost (0 where "
            "the router is free)"
        )
    return notes + [line for entry in entries if (line := audit_note(entry.router, entry.record.audit))]


def _named(entry: Entry) -> str:
    return f"{entry.router} (decisions {entry.record.configuration.decisions})"


def audit_line(audit: LeakAudit) -> str:
    """What the audit says, whatever it found."""
    return f"leak audit: its choices hold {_gain(audit)} on {counted(audit.queries, 'test query')}"


def _gain(audit: LeakAudit) -> str:
    low, high = audit.gain_ci
    p = f"p {audit.p:.2g}" if audit.p >= _LEAST_P else f"p below {_LEAST_P:g}"
    return f"{audit.gain:+.3f} [{low:+.3f}, {high:+.3f}] more utility than the text tells us ({p})"


def audit_note(router: str, audit: LeakAudit | None) -> str | None:
    """What the audit found, in one line; None where it found nothing, or there was none."""
    if audit is None or not (audit.follows or audit.beyond_ceiling):
        return None
    found = f"{router} follows the labels of test: its choices hold {_gain(audit)}"
    if audit.beyond_ceiling:
        assert audit.over_task_ci is not None
        least, most = audit.over_task_ci
        return (
            f"{found}, and it gains {audit.over_task:+.3f} [{least:+.3f}, {most:+.3f}] over each task's best arm, "
            f"where the best router that reads the text could gain {audit.ceiling:+.3f} at most: did it see the "
            "outcomes of test? (docs/external.md)"
        )
    return f"{found}: it reads the text better than our models do, or it saw outcomes of test (docs/external.md)"
