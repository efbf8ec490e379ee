"""Tables, numbers and curves of `benchmarks/lm_policy.py`."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.evaluation.stability import Curve
from recal_bench.evaluation.statistics import Interval
from recal_bench.experiments.bench import Bench
from recal_bench.provenance import code_version
from recal_bench.reporting.figures.stability import stability
from recal_bench.reporting.pictures.training import training_curves
from recal_bench.reporting.text.stability import render_reports

Compare = Callable[[np.ndarray, np.ndarray, np.ndarray], Interval]
START, CONTROL = "start", "format start"
OURS = ("recal", "recal, arms")
"""Rows that all others are compared with."""


def write_part(
    part: Any, measured: Mapping[str, Any], bench: Bench, best_single_Q: np.ndarray, compare: Compare, asked: Namespace
) -> list[Path]:
    """`PART.md`, `PART.json`, `PART-stability.md` and the training curves of a part."""
    task_Q = bench.splits.evaluation["test"].task_Q
    asked.out.mkdir(parents=True, exist_ok=True)
    stem = asked.out / part.name
    numbers = {label: of_row(each, task_Q, best_single_Q, compare) for label, each in measured.items()}
    for row in part.rows:
        if row.start:
            one, other = measured[row.label], measured[row.start]
            # The first seeds of a start are those of a control that has fewer.
            seeds = len(one.sampled_SQ)
            numbers[row.label]["sampled_less_start"] = told(compare(one.sampled_SQ, other.sampled_SQ[:seeds], task_Q))
            numbers[row.label]["greedy_less_start"] = told(compare(one.greedy_SQ, other.greedy_SQ[:seeds], task_Q))
            numbers[row.label]["less"] = {
                ours: [
                    told(compare(getattr(measured[ours], kind)[:seeds], getattr(one, kind), task_Q))
                    for kind in ("sampled_SQ", "greedy_SQ")
                ]
                for ours in OURS
                if ours in measured and ours != row.label and row.start != CONTROL
            }
    content = {
        "command": f"python benchmarks/lm_policy.py {part.name}"
        + (" --small" if asked.small else f" --seeds {asked.seeds}"),
        "code": code_version(),
        "device": asked.device,
        "simulated": True,
        "world_seed": asked.world_seed,
        "data_hash": bench.data.hash,
        "settings": part.settings,
        "best_single": macro_mean(best_single_Q, task_Q),
        "rows": numbers,
    }
    paths = [stem.with_suffix(".json"), stem.with_suffix(".md")]
    paths[0].write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    trained = [run for row in part.rows if row.start == START for run in measured[row.label].runs]
    paths.append(stem.with_name(f"{part.name}-stability.md"))
    reports = render_reports(stability(trained), "markdown")
    paths[-1].write_text(f"# {part.name}: stability of the trainings (simulated)\n\n{reports}\n", encoding="utf-8")
    named = [(label, [columns(log) for log in each.logs]) for label, each in measured.items() if any(each.logs)]
    pictures = training_curves(named, f"{part.name} (simulated)", asked.out / f"{part.name}-training")
    shown = [f"![Training curves (simulated)]({path.name})\n" for path in pictures if path.suffix == ".svg"]
    paths[1].write_text("\n".join([page(part, content), *shown]), encoding="utf-8")
    return [*paths, *pictures]


def of_row(row: Any, task_Q: np.ndarray, best_single_Q: np.ndarray, compare: Compare) -> dict[str, Any]:
    """What a row shows by itself, and against the best single arm."""
    seeds = [macro_mean(value_Q, task_Q) for value_Q in row.sampled_SQ]
    return {
        "seeds": len(row.greedy_SQ),
        "greedy": told(compare(row.greedy_SQ, np.zeros_like(row.greedy_SQ), task_Q)),
        "sampled": told(compare(row.sampled_SQ, np.zeros_like(row.sampled_SQ), task_Q)),
        "greedy_less_best_single": told(compare(row.greedy_SQ, best_single_Q[None], task_Q)),
        "sampled_seed_sd": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
        "malformed": float(np.max(row.malformed_S)),
        "sampled_malformed": float(np.max(row.sampled_malformed_S)),
        "top_arm_share": float(np.max(row.top_share_S)),
        "speed": None if row.speed is None else _speed(row.speed),
    }


def _speed(speed: Any) -> dict[str, float]:
    return {
        **speed._asdict(),
        "tokens_per_second": speed.tokens_per_second,
        "utilisation": speed.utilisation,
    }


def told(interval: Interval) -> dict[str, float]:
    return {"mean": float(interval.estimate), "low": float(interval.low), "high": float(interval.high)}


def columns(log: list[dict[str, Any]]) -> dict[str, Curve]:
    """The columns of a training log."""
    names = {name for line in log for name in line if name != "step"}
    found = {name: [(line["step"], line[name]) for line in log if line.get(name) is not None] for name in names}
    return {name: Curve(*map(np.array, zip(*pairs, strict=True))) for name, pairs in found.items() if pairs}


def page(part: Any, content: dict[str, Any]) -> str:
    """The tables in markdown."""
    rows = content["rows"]
    first = [[label, *_cells(row)] for label, row in rows.items()]
    second = [
        [label, _shown(row["sampled_less_start"], True), _shown(row["greedy_less_start"], True)]
        for label, row in rows.items()
        if "sampled_less_start" in row
    ]
    third = [
        [ours, label, *(_shown(interval, True) for interval in row["less"][ours])]
        for ours in OURS
        for label, row in rows.items()
        if ours in row.get("less", {})
    ]
    fourth = [
        [label, f"{each['step_seconds']:.2f}", f"{each['tokens_per_second']:,.0f}", f"{each['flop'] / 1e9:,.0f}",
         f"{each['peak_flops'] / 1e12:,.2f}", f"{each['utilisation']:.1%}"]
        for label, row in rows.items() if (each := row["speed"])
    ]  # fmt: skip
    heads = (
        ["row", "seeds", "greedy", "sampled", "greedy less best-single", "seed SD, sampled", "well-formed, greedy",
         "well-formed, sampled", "top-arm share"],
        ["row", "sampled, less its start", "greedy, less its start"],
        ["row", "less", "sampled", "greedy"],
        ["a step of", "seconds", "tokens/s", "GFLOP", "matrix product, TFLOP/s", "model FLOP utilisation"],
    )  # fmt: skip
    tables = [
        tabulate(body, head, tablefmt="github", disable_numparse=True)
        for body, head in zip((first, second, third, fourth), heads, strict=True)
        if body
    ]
    about = (
        f"Simulated: embedded pool, world {content['world_seed']}, data {content['data_hash'][:12]}. True expected "
        f"utility on test (best-single {content['best_single']:.4f}), with intervals over seeds and queries. Shares "
        f"are those of the worst seed. Device: {content['device']}. Code: {content['code']}.\n\n"
        f"    {content['command']}\n"
    )
    return "\n\n".join([f"# {part.name}", about, *tables]) + "\n"


def _cells(row: dict[str, Any]) -> list[Any]:
    shares = [f"{1 - row[name]:.3f}" for name in ("malformed", "sampled_malformed")]
    utilities = [_shown(row["greedy"]), _shown(row["sampled"]), _shown(row["greedy_less_best_single"], True)]
    rest = [*shares, f"{row['top_arm_share']:.2f}"]
    return [row["seeds"], *utilities, _number(row["sampled_seed_sd"]), *rest]


def _shown(interval: dict[str, float], signed: bool = False) -> str:
    form = "+.4f" if signed else ".4f"
    return f"{interval['mean']:{form}} [{interval['low']:{form}}, {interval['high']:{form}}]"


def _number(value: float | None, digits: int = 4) -> str:
    return "" if value is None else f"{value:.{digits}f}"
