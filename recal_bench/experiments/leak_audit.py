"""Whether decisions from elsewhere follow the outcomes of test."""

from __future__ import annotations

from collections.abc import Sequence

from recal_bench.arrays import IntQ
from recal_bench.experiments.bench import Bench
from recal_bench.toolbox.leaks import LeakAudit


def audit(bench: Bench, choices: Sequence[IntQ]) -> LeakAudit | None:
    return None
