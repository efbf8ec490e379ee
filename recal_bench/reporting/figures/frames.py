"""Comparisons and runs as pandas DataFrames: flat columns, which docs/python.md explains."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from recal_bench.evaluation.metrics import macro_mean
from recal_bench.experiments.records import Run
from recal_bench.reporting.figures.compare import TEST, Table
from recal_bench.reporting.figures.differences import Difference, InterquartileMean
from recal_bench.reporting.figures.entries import UnreadableRunError, decisions_of
from recal_bench.reporting.figures.logged import Estimate, LoggedFigures, LoggedTable
from recal_bench.reporting.figures.names import labels
from recal_bench.reporting.figures.splits import Figures

if TYPE_CHECKING:
    import pandas as pd

FIRST = (
    "router", "outcomes", "alpha", "utility", "utility_low", "utility_high", "difference", "difference_low",
    "difference_high", "p_adjusted", "accuracy", "cost_usd_per_1k", "savings", "regret", "n_seeds", "reference",
)  # fmt: skip
"""The columns that come first; the others follow in the order of the figures' definitions."""


def comparison_frame(made: Sequence[Table | LoggedTable]) -> pd.DataFrame:
    """The rows of all tables, by their labels. `attrs["notes"]` holds the tables' notes, each once."""
    import pandas as pd

    names = [name for table in made for name in labels(table.rows)]
    rows = [_flat(row) for table in made for row in table.rows]
    frame = pd.DataFrame(rows, index=pd.Index(names, name="label"))
    first = [name for name in FIRST if name in frame]
    frame = frame[[*first, *(name for name in frame if name not in first)]]
    frame.attrs["notes"] = list(dict.fromkeys(note for table in made for note in table.notes))
    return frame


def _flat(figures: Figures | LoggedFigures) -> dict[str, Any]:
    """The figures of one split, and those of a row's other splits under their names; null where unknown."""
    flat: dict[str, Any] = {}
    named: dict[str, Any] = {}
    for name, value in figures:
        if name == "metric" or (name == "iqm" and value is None):
            continue
        if name == "splits":
            named |= {f"{split}_{key}": each for split, found in value.items() for key, each in _flat(found).items()}
        elif name == "per_task":
            named |= {f"accuracy_{task}": accuracy for task, accuracy in value.items()}
        elif name == "vs_baseline":
            flat |= _difference(value)
        elif name == "accuracy_vs_baseline":
            flat |= {f"accuracy_{key}": each for key, each in _difference(value).items()}
        elif name == "rank":
            flat |= _interval(name, value)
        elif name.endswith("_ci"):
            flat |= _interval(name.removesuffix("_ci"), value)
        elif isinstance(value, InterquartileMean):
            flat |= {"iqm": value.value, **_interval("iqm", value.ci), "iqm_difference": value.difference}
            flat |= {**_interval("iqm_difference", value.difference_ci), "iqm_p_adjusted": value.p_adjusted}
        elif isinstance(value, Estimate):
            flat |= {name: value.value, **_interval(name, value.ci)}
        else:
            flat[name] = value
    flat = _renamed(flat, figures)
    # A task or a split may be called like a figure, such as macro.
    return flat | {name + "_" * (name in flat): value for name, value in named.items()}


def _renamed(flat: dict[str, Any], figures: Figures | LoggedFigures) -> dict[str, Any]:
    """One name for one figure, whether it was replayed or is estimated from a log of single choices."""
    names = {"accuracy_macro": "accuracy"}
    if isinstance(figures, LoggedFigures):
        on_utility = figures.metric == "utility"
        for end in ("", "_low", "_high"):
            names[f"snips{end}"] = f"utility{end}" if on_utility else f"accuracy{end}"
            names[f"against_baseline{end}"] = f"difference{end}" if on_utility else f"accuracy_difference{end}"
    return {names.get(name, name): value for name, value in flat.items()}


def _difference(found: Difference | None) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(Difference.model_fields) if found is None else dict(found)
    first = {"difference": values["difference"], **_interval("difference", values["ci"])}
    better = _interval("p_improvement", values["p_improvement_ci"])
    return first | {name: values[name] for name in ("p_adjusted", "p_improvement", "mde")} | better


def _interval(name: str, ci: tuple[float, float] | None) -> dict[str, float | None]:
    low, high = ci or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def runs_frame(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run, with its figures on test; NaN where unknown, or where its decisions cannot be read."""
    import pandas as pd

    return pd.DataFrame([_of_run(run) for run in runs])


def _on_test(run: Run) -> list[float]:
    """Macro utility, accuracy and cost (USD per 1,000 queries, with the router's own)."""
    try:
        frame = decisions_of(run)
    except UnreadableRunError:
        return [float("nan")] * 3
    test = frame[frame["split"] == TEST]
    cost_Q = test["cost_usd"] + test["router_cost_usd"]
    return [
        float(macro_mean(np.asarray(value_Q, dtype=np.float64), test["task"].to_numpy()))
        for value_Q in (test["utility"], test["score"], 1000 * cost_Q)
    ]


def _of_run(run: Run) -> dict[str, Any]:
    record, configuration = run.record, run.record.configuration
    utility, accuracy, cost = _on_test(run)
    return {
        "router": configuration.router,
        "seed": configuration.seed,
        "outcomes": configuration.data.name,
        "alpha": configuration.data.alpha,
        "utility": utility,
        "accuracy": accuracy,
        "cost_usd_per_1k": cost,
        "reference": record.reference,
        "tuned": configuration.tuned,
        "settings": configuration.shown_settings,
        "steps": record.steps,
        "fit_seconds": record.fit_seconds,
        "route_us_per_query": record.route_us_per_query,
        "simulated": configuration.data.simulated,
        "command": record.command,
        "folder": str(run.folder),
    }
