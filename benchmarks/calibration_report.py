"""The report of the calibration study: of each part markdown, JSON and curves from its run records, and an index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from study_numbers import (
    Entries,
    accuracy_difference,
    difference,
    entries_of,
    holm_of,
    steadiness,
    utility,
    validation_curves,
    worlds_above,
)
from tabulate import tabulate

from recal_bench.evaluation.statistics import Interval
from recal_bench.experiments.records import read_runs
from recal_bench.experiments.tuning import Tuned
from recal_bench.reporting.pictures.training import training_curves

OURS = ("recal", "recal-unbiased")
AGAINST = (
    "hierarchy",
    "expected",
    "dr-grpo",
    "grpo",
    "gdpo",
    "dvao",
    "hero",
    "task-best",
    "ridge-tasks",
    "ridge",
    "knn",
)
ABLATED = (
    "recal-no-components",
    "recal-no-reweighting",
    "recal-inverse-weights",
    "recal-no-dataset-norm",
    "recal-no-floor",
    "recal-plain",
    "recal-unbiased",
    "recal-no-shrinkage",
    "recal-no-task",
    "recal-no-balance",
    "recal-from-knn",
)
LEVEL = 0.05
CURVES = ("recal", "recal-unbiased", "grpo", "dr-grpo", "gdpo")
TITLES = {
    "hierarchy": "Embedded pool (simulated): from the hierarchical prior",
    "knn": "Embedded pool (simulated): from the nearest train queries (prior.kind=knn)",
    "none": "Embedded pool (simulated): learning from nothing (prior.kind=none)",
}
# The tasks over which RouterDC's published means are taken (arXiv 2409.19886): arc_easy and javascript are not in them.
ROUTERDC = {
    "in distribution": (("arc_challenge", "cmmlu", "gsm8k", "humaneval", "mmlu"), 58.54),
    "out of distribution": (("MATH_prealgebra", "ceval", "mbpp"), 45.85),
}


def write_part(part: Any, tuned: dict[str, Tuned], runs: Path, out: Path, command: str) -> list[Path]:
    """A part's tables, figures and curves, each in a file of its name."""
    entries = entries_of(read_runs(runs))
    text, numbers = _section(part, tuned, entries)
    drawn = training_curves(
        [(name, validation_curves(entries, name)) for name in CURVES if name in entries.names],
        _title(part) + (": all seeds" if part.file else ": seeds of all worlds"),
        out / f"{part.name}-training",
    )
    shown = [f"![Training curves: {_title(part)}]({path.name})" for path in drawn if path.suffix == ".png"]
    head = f"Written by `{command}`; do not edit. [How to read it](README.md)."
    paths = [out / f"{part.name}.md", out / f"{part.name}.json"]
    paths[0].write_text("\n\n".join([f"# {_title(part)}", head, text, *shown]) + "\n", encoding="utf-8")
    paths[1].write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
    return [*paths, *drawn]


def write_index(parts: Sequence[Any], out: Path, command: str) -> Path:
    """README.md: what the study is, and ReCal against the others in every part whose file is there."""
    told = f"""# Calibration study

Written by `{command}`; do not edit.

What calibrated rewards are worth: every advantage estimator and every ablation of ReCal on one policy and one loop, and
supervised baselines, all tuned with the same number of validation trials (`tuned-*.json`, or the `tuned.json` of a
log's leaderboard, hold every trial). ReCal is a reconstruction from the paper's abstract. On the embedded pool
(simulated) a router is judged by its true expected utility, on a log by what was logged. Intervals are 95%; differences
are paired by query and, where both have seeds, by seed; seeds are crossed with queries within tasks. Those of several
worlds hold for these worlds; *above* says in how many of them a difference is above 0. `p` is Holm-adjusted over the
rows of its table. A row *wins* or *loses* where that p is below .05 and *ties* elsewhere. Final runs use training seeds
0 to 19, tuning used 1000 to 1002.

Beside this: [bias.md](bias.md), what each estimator optimises, computed exactly; tasks that differ as much as tasks
can, [from nothing](stress.md) and [from the hierarchical prior](stress-hierarchy.md);
[docs/study.md](../../docs/study.md), what it all says."""
    found = {part: out / f"{part.name}.json" for part in parts}
    numbers = {part: json.loads(file.read_text("utf-8")) for part, file in found.items() if file.exists()}
    rows = [
        [name, *(_signed(_less(of.get(name, {}).get("vs_recal"))) for of in numbers.values())]
        for name in (*AGAINST, "recal-from-knn", "best-single")
        if any(name in of for of in numbers.values())
    ]
    headers = ["recal less", *(f"[{part.name}]({part.name}.md)" for part in numbers)]
    titles = "\n".join(f"- [{part.name}.md]({part.name}.md): {_title(part)}" for part in numbers)
    shown = [told, f"## ReCal against the others\n\nDifferences of utility.\n\n{_grid(headers, rows)}\n\n{titles}"]
    if missing := [_title(part) for part in parts if part not in numbers]:
        shown.append("**Not run yet**: " + "; ".join(missing) + ".")
    path = out / "README.md"
    path.write_text("\n\n".join(shown) + "\n", encoding="utf-8")
    return path


def _less(of: Sequence[float] | None) -> Interval | None:
    """What the other has over recal, the other way round. Rounding does not make a -0 of what is equal."""
    if of is None:
        return None
    estimate, low, high = (0.0 - round(of[index], 9) for index in (0, 2, 1))
    return Interval(estimate, low, high, of[3], np.nan)


def _section(part: Any, tuned: dict[str, Tuned], entries: Entries) -> tuple[str, dict[str, Any]]:
    hashes = ", ".join(f"{group.data.name} ({group.data.hash})" for group in entries.groups)
    codes = ", ".join(
        sorted({run.record.code for name in entries.names for each in entries.of(name) for run in each.runs})
    )
    trials = max((len(each.trials) for each in tuned.values()), default=0)
    how = f"{trials} trials for every router" if trials > 1 else "defaults for every router"
    lines = [f"Outcomes: {hashes}. Settings: {how}. Code: {codes}."]
    numbers: dict[str, Any] = {}

    ranked = sorted(entries.names, key=lambda name: -utility(entries, name).estimate)
    rows = []
    for name in ranked:
        of = utility(entries, name)
        versus = {base: difference(entries, name, base) for base in ("recal", "grpo") if base != name}
        kept = tuned[name].settings if name in tuned else {}
        rows.append(
            [name, _value(of), *(_signed(versus.get(base)) for base in ("recal", "grpo")), _settings(kept, part)]
        )
        numbers[name] = {"utility": list(of[:3]), **{f"vs_{base}": list(i[:4]) for base, i in versus.items()}}
    lines.append(_grid(["router", "utility", "vs recal", "vs grpo", "settings that validation chose"], rows))

    for title, pairs in (
        ("ReCal and its unbiased heir against the others", [(our, base) for our in OURS for base in AGAINST]),
        ("Which step does it: ReCal without it, against ReCal", [(name, "recal") for name in ABLATED]),
    ):
        pairs = [pair for pair in pairs if set(pair) <= set(entries.names)]
        found = [difference(entries, *pair) for pair in pairs]
        adjusted = holm_of(found)
        rows = [
            [*pair, _signed(interval), worlds_above(entries, *pair), _p(p), _verdict(interval, p)]
            for pair, interval, p in zip(pairs, found, adjusted, strict=True)
        ]
        lines.append(f"## {title}\n\n" + _grid(["router", "against", "difference of utility", "above", "p", ""], rows))

    rows = []
    for name in [name for name in ranked if name in entries.trained and name != "grpo"]:
        of = steadiness(entries, name, "grpo")
        rows.append([name, f"{of.sd:.4f}", *(_estimate(each) for each in of.versus), of.collapsed])
        numbers[name]["steadiness_vs_grpo"] = {
            key: list(each)
            for key, each in zip(("sd_ratio", "steps_ratio", "area", "collapse"), of.versus, strict=True)
        }
    headers = ["router", "seed SD", "SD / grpo's", "steps / grpo's", "area - grpo's", "collapsed - grpo's", "collapsed"]
    lines.append(
        "## Steadiness against GRPO\n\nSD over seeds of the final test utility (within worlds); steps until the mean "
        "validation curve reaches the highest point of GRPO's, as a ratio (inf: only GRPO gets there; -: GRPO is there "
        "untrained, or neither gets there); mean height of the validation curve over the router's own steps, as a "
        "difference; share of seeds whose last policy gave back half of the gain over best-single.\n\n"
        + _grid(headers, rows)
    )
    if part.name == "routerdc":
        lines.append(_routerdc(entries))
    return "\n\n".join(lines), numbers


def _title(part: Any) -> str:
    return TITLES.get(part.name) or f"{Path(part.file).stem} (logged)"


def _routerdc(entries: Entries) -> str:
    rows = []
    ours = [name for name in OURS if name in entries.names]
    supervised = [name for name in ("ridge", "knn", "mlp", "logistic") if name in entries.names]
    for where, (tasks, published) in ROUTERDC.items():
        accuracy = {name: accuracy_difference(entries, name, None, tasks) for name in entries.names}
        best = max(supervised, key=lambda name: accuracy[name].estimate)
        for name in (*ours, "task-best", best):
            against = [
                _points(accuracy_difference(entries, name, base, tasks)) if base != name and name in ours else ""
                for base in ("task-best", best)
            ]
            rows.append([where, name, f"{100 * accuracy[name].estimate:.2f}", *against, f"{published:.2f}"])
    headers = ["tasks", "router", "accuracy %", "vs task-best", "vs best baseline", "RouterDC (published)"]
    note = "The best baseline is the best of the tuned supervised ones in this table, chosen by the figure shown."
    return f"## Accuracy beside RouterDC's published means\n\n{_grid(headers, rows)}\n\n{note}"


def _settings(settings: dict[str, Any], part: Any) -> str:
    fixed = dict(part.fixed)
    return ", ".join(f"{key}={value}" for key, value in settings.items() if key not in fixed) or "defaults"


def _value(of: Interval) -> str:
    return f"{of.estimate:.4f} [{of.low:.4f}, {of.high:.4f}]"


def _signed(of: Interval | None) -> str:
    return "" if of is None else f"{of.estimate:+.4f} [{of.low:+.4f}, {of.high:+.4f}]"


def _points(of: Interval) -> str:
    return f"{100 * of.estimate:+.2f} [{100 * of.low:+.2f}, {100 * of.high:+.2f}]"


def _estimate(of: Any) -> str:
    if np.isnan(of.value):
        return "-"
    return f"{of.value:.3g}" if np.isnan(of.low) else f"{of.value:.3g} [{of.low:.3g}, {of.high:.3g}]"


def _p(p: float) -> str:
    return "<.001" if p < 0.001 else f"{p:.3f}"


def _verdict(of: Interval, p: float) -> str:
    return "ties" if p >= LEVEL else "wins" if of.estimate > 0 else "loses"


def _grid(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True)
