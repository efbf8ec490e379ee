"""Counters and histograms in the text format of Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from typing import NamedTuple

PREFIX = "recal_bench_"
COUNTERS = {
    "requests_total": "Chat requests, by what became of them.",
    "answers_total": "Answers, by arm.",
    "fallbacks_total": "Requests that another arm than the chosen one answered.",
    "explored_total": "Requests whose arm was drawn at random.",
    "failed_attempts_total": "Attempts without a usable answer, by model and kind.",
    "tokens_total": "Tokens of answers, by model and kind.",
    "cost_usd_total": "What answers cost by the price book, by model.",
    "unknown_features_total": "Requests that do not tell a feature that the router reads, by feature.",
    "shadow_total": "Requests by whether the shadow router would have chosen the same arm.",
    "feedback_total": "Scores received.",
    "reloads_total": "Reloads of the run, by whether they succeeded.",
}
HISTOGRAMS = {
    "routing_seconds": "How long the router took, waiting for its turn included.",
    "request_seconds": "How long a request took to the end of its answer.",
}
_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
Labels = tuple[tuple[str, str], ...]


class Gauge(NamedTuple):
    """A value that is known where it is asked for."""

    help: str
    value: float
    labels: Labels = ()


class Metrics:
    """Counts what happens. Names and labels are those of COUNTERS and HISTOGRAMS."""

    def __init__(self) -> None:
        self._counts: defaultdict[str, Counter[Labels]] = defaultdict(Counter)
        self._buckets = {name: [0] * (len(_BOUNDS) + 1) for name in HISTOGRAMS}
        self._sums = dict.fromkeys(HISTOGRAMS, 0.0)

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        # Counter's type knows whole numbers only.
        self._counts[name][tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def observe(self, name: str, seconds: float) -> None:
        self._buckets[name][bisect_left(_BOUNDS, seconds)] += 1
        self._sums[name] += seconds

    def text(self, gauges: dict[str, Gauge]) -> str:
        """All of them, in the text format 0.0.4."""
        lines: list[str] = []
        for name, meaning in COUNTERS.items():
            lines += _head(name, meaning, "counter")
            lines += [_line(name, labels, value) for labels, value in sorted(self._counts[name].items())]
        for name, gauge in gauges.items():
            lines += [*_head(name, gauge.help, "gauge"), _line(name, gauge.labels, gauge.value)]
        for name, meaning in HISTOGRAMS.items():
            lines += _head(name, meaning, "histogram")
            total = 0
            for bound, count in zip((*map(str, _BOUNDS), "+Inf"), self._buckets[name], strict=True):
                total += count
                lines.append(_line(f"{name}_bucket", (("le", bound),), total))
            lines += [_line(f"{name}_sum", (), self._sums[name]), _line(f"{name}_count", (), total)]
        return "\n".join(lines) + "\n"


def _head(name: str, meaning: str, kind: str) -> list[str]:
    return [f"# HELP {PREFIX}{name} {meaning}", f"# TYPE {PREFIX}{name} {kind}"]


def _line(name: str, labels: Labels, value: float) -> str:
    inner = ",".join(f'{key}="{_escaped(each)}"' for key, each in labels)
    return f"{PREFIX}{name}{f'{{{inner}}}' if inner else ''} {value:.12g}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
