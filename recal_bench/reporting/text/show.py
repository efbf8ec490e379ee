"""One run as text: its tasks, the decisions that lost most, its learning curve."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from recal_bench.defaults import UPPER_BOUND
from recal_bench.errors import RunError
from recal_bench.evaluation.diagnosis import MODES, diagnose
from recal_bench.evaluation.offpolicy import LEAST_TASK_ESS
from recal_bench.experiments.records import Guard, Run
from recal_bench.reporting.figures.entries import UnreadableRunError, decisions_of
from recal_bench.reporting.figures.external import audit_line
from recal_bench.reporting.figures.training_logs import curves_of, gains_of, is_torn
from recal_bench.reporting.text.columns import UNKNOWN
from recal_bench.reporting.text.layout import filled, terminal_table
from recal_bench.wording import harmless, listed

if TYPE_CHECKING:
    import pandas as pd

_CHART = (10, 64)


def show_run(run: Run, runs: Sequence[Run], worst: int = 10) -> str:
    """Everything about one run. `runs` are those of the same folder, among which the oracle is looked for."""
    configuration, recall = run.record.configuration, run.record.neighbour_recall
    data = configuration.data
    settings = ", ".join(f"{key}={value}" for key, value in configuration.shown_settings.items()) or "none"
    seeds = "" if run.record.deterministic or run.record.external else f" --seeds {configuration.seed + 1}"
    facts = [
        f"{configuration.router}, seed {configuration.seed}, on {data.name} ({data.hash[:12]})"
        + (", simulated" if data.simulated else ""),
        f"alpha {data.alpha:g}, missing outcomes: {data.missing}, {configuration.device} ({run.record.device_name})",
        f"settings: {settings}",
        *_kept(run),
        *([guard_line(run.record.guard)] if run.record.guard else []),
        *([audit_line(run.record.audit)] if run.record.audit else []),
        *([] if recall is None else [f"neighbours: an approximate search, which finds {recall:.1%} of the true ones"]),
        f"command: {run.record.command}{seeds}",
    ]
    # A command is copied: it is not broken into lines.
    facts = [harmless(fact) if index == len(facts) - 1 else filled(fact) for index, fact in enumerate(facts)]
    oracle = next(
        (
            other
            for other in runs
            if _is_upper_bound(other) and other.record.configuration.data.identity == data.identity
        ),
        None,
    )
    table = logged_table(run) if run.logged else per_task_table(run)
    if oracle:
        try:
            lost = most_regretted(run, oracle, worst)
        except UnreadableRunError as error:
            lost = f"No decisions are held against the oracle's: {error}"
    elif run.logged:
        lost = filled(
            "A log of single choices: figures are estimated (SNIPS) from the queries whose logged arm is the chosen "
            f"one, and not where fewer than {LEAST_TASK_ESS:g} effective queries speak of a task. There is no oracle: "
            "what the other arms would have scored is not known."
        )
    else:
        lost = "There is no oracle of the same outcomes beside this run."
    return "\n\n".join(["\n".join(facts), table, lost, learning_curve(run)])


def guard_line(guard: Guard) -> str:
    """How a guarded router was held back."""
    asked = (
        "no predicted gain is enough to leave the fallback arm"
        if guard.caution == "inf"
        else f"a predicted gain over the fallback arm must exceed {guard.caution:g} standard errors"
    )
    chosen = " (chosen on validation)" if guard.tuned else ""
    held = listed([f"{100 * share:.1f}% of {split}" for split, share in guard.held_back.items()])
    return f"guard: {asked}{chosen}; it held the router back on {held}"


def diagnose_run(run: Run) -> str:
    """The failure modes that a run's training shows, each with its numbers and what to change.

    Raises RunError where the run keeps no training log, or a damaged one.
    """
    columns, configuration = curves_of(run), run.record.configuration
    if is_torn(run):
        raise RunError(f"the training log of {run.folder} is damaged: run it again with --fresh")
    if not columns:
        raise RunError(
            f"{run.folder} keeps no training log: diagnose the run of a router that is trained step by step, "
            f"which {configuration.router} is not"
        )
    found = diagnose(columns, configuration.settings)
    title = f"{configuration.router}, seed {configuration.seed}, on {configuration.data.name}"
    parts = [
        "\n".join(
            filled(line, indent, " " * 10)
            for indent, line in (
                (f"{number}. ", finding.name),
                ("   shows: ", finding.evidence),
                ("   change: ", finding.change),
            )
        )
        for number, finding in enumerate(found.findings, 1)
    ]
    if not parts:
        parts = [
            f"No failure mode shows: the training looks healthy ({len(MODES) - len(found.not_judged)} modes judged)."
        ]
        parts += _kept(run)
    if found.not_judged:
        parts.append(f"Not judged, since the log lacks what it takes: {', '.join(found.not_judged)}.")
    return "\n\n".join([harmless(title), *parts])


def _kept(run: Run) -> list[str]:
    """Which step's policy is the result, and what it gained over the untrained one; nothing where no log tells."""
    gains = gains_of([curves_of(run)])
    if gains is None:
        return []
    ((step, gain, error),) = gains
    line = f"kept: the policy of step {step:g} of {run.record.steps}; {gain:+.4f} on validation over the untrained one"
    return [f"{line} (standard error {error:.4f})"]


def per_task_table(run: Run) -> str:
    """Queries, accuracy, utility, cost and the arm chosen most, for every task of every evaluated split."""
    lines = []
    for (split, task), part in decisions_of(run).groupby(["split", "task"], sort=True):
        lines.append(
            [
                str(split),
                str(task),
                f"{len(part):,}",
                _number(100 * part["score"].mean(skipna=False), ".2f"),
                _number(part["utility"].mean(skipna=False), ".4f"),
                _number(1000 * part["cost_usd"].mean(skipna=False), "#.4g"),
                _chosen_most(part),
            ]
        )
    headers = ["split", "task", "queries", "acc %", "utility", "USD/1k", "arm chosen most"]
    return terminal_table(headers, lines, (1, 0, 2, 0, 0, 1, 0), left=(0, 1, 6))


def logged_table(run: Run) -> str:
    """What `per_task_table` tells, of a log of single choices: estimates, beside how many queries speak for them."""
    frame = decisions_of(run)
    several = frame["propensity"].isna()
    frame["weight"] = np.where(several, 1.0, (frame["arm"] == frame["logged_arm"]) / frame["propensity"])
    splits = [((split, "all"), part) for split, part in frame.groupby("split", sort=True)]
    lines = []
    for (split, task), part in [*frame.groupby(["split", "task"], sort=True), *splits]:
        seen = part[part["weight"] > 0]
        effective = seen["weight"].sum() ** 2 / (seen["weight"] ** 2).sum() if len(seen) else 0.0
        enough = effective >= min(LEAST_TASK_ESS, len(part))
        lines.append(
            [
                str(split),
                str(task),
                f"{len(part):,}",
                f"{len(seen):,}",
                f"{effective:.1f}",
                _number(100 * _weighted(seen, "score"), ".1f") if enough else UNKNOWN,
                _number(_weighted(seen, "utility"), ".3f") if enough else UNKNOWN,
                _number(1000 * _weighted(seen, "cost_usd"), "#.4g") if enough else UNKNOWN,
                _chosen_most(part),
            ]
        )
    headers = ["split", "task", "queries", "matched", "effective", "acc %", "utility", "USD/1k", "arm chosen most"]
    return terminal_table(headers, lines, (2, 0, 4, 5, 0, 0, 0, 3, 1), left=(0, 1, 8))


def _weighted(seen: pd.DataFrame, name: str) -> float:
    return float((seen["weight"] * seen[name]).sum(skipna=False) / seen["weight"].sum())


def _chosen_most(part: pd.DataFrame) -> str:
    counts = part["arm"].value_counts(sort=False).sort_index()
    return f"{counts.index[int(np.argmax(counts.to_numpy()))]} ({100 * counts.max() / len(part):.0f}%)"


def most_regretted(run: Run, oracle: Run, n: int) -> str:
    """The test decisions that lost most utility (score where no utility is reported) against the oracle's."""
    keys = ["split", "task", "query_id"]
    both = _test(run).merge(_test(oracle), on=keys, suffixes=("", "_oracle"), validate="one_to_one")
    measure = "score" if both["utility"].isna().any() else "utility"
    both["lost"] = both[f"{measure}_oracle"] - both[measure]
    worst = both[both["lost"] > 0].sort_values(["lost", *keys], ascending=[False, True, True, True]).head(n)
    if worst.empty:
        return "No decision on test lost anything against the oracle."
    lines = [
        [str(row.task), str(row.query_id), f"{row.lost:.3f}", *_choice(row, ""), *_choice(row, "_oracle")]
        for row in worst.itertuples()
    ]
    headers = ["task", "query", "lost", "chosen", "score", "USD", "oracle's", "score", "USD"]
    table = terminal_table(headers, lines, (1, 0, 0, 0, 3, 4, 0, 2, 4), left=(0, 1, 3, 6))
    return f"Decisions on test that lost most against the oracle, in {measure}\n\n{table}"


def learning_curve(run: Run) -> str:
    """Validation utility against training step, drawn with characters."""
    curve = curves_of(run).get("validation_utility")
    if is_torn(run):
        log = run.folder / "metrics.jsonl"
        return f"The training log is missing or damaged: {log} should hold {run.record.steps} steps."
    if curve is None or len(curve.step_N) < 2:
        return "This router keeps no learning curve."
    height, width = _CHART
    step_N, value_N = curve
    columns = min(width, len(step_N))
    # Equal shares of the curve, averaged, so that a long training fits the width.
    value_C = np.array([part.mean() for part in np.array_split(value_N, columns)])
    low, high = value_C.min(), value_C.max()
    level_C = np.round((value_C - low) / max(high - low, 1e-12) * (height - 1)).astype(int)
    rows = []
    for level in range(height - 1, -1, -1):
        edge = f"{high:8.4f}" if level == height - 1 else f"{low:8.4f}" if level == 0 else " " * 8
        rows.append(f"{edge} |" + "".join("*" if at == level else " " for at in level_C).rstrip())
    first, last = f"{step_N[0]:g}", f"{step_N[-1]:g}"
    rows.append(" " * 9 + "+" + "-" * columns)
    rows.append(" " * 10 + first + " " * max(1, columns - len(first) - len(last)) + last)
    best = int(np.argmax(value_N))
    summary = f"best {value_N[best]:.4f} at step {step_N[best]:g}, last {value_N[-1]:.4f}"
    kept = run.record.kept_step
    summary += "" if kept is None else f", kept: step {kept}"
    return filled(f"Utility on validation by training step ({summary})") + "\n\n" + "\n".join(rows)


def _is_upper_bound(run: Run) -> bool:
    return run.record.reference and run.record.configuration.router == UPPER_BOUND


def _test(run: Run) -> pd.DataFrame:
    frame = decisions_of(run)
    test: pd.DataFrame = frame[frame["split"] == "test"]
    return test


def _choice(row: object, suffix: str) -> list[str]:
    """The arm, its score and its cost."""
    arm, score, cost = (getattr(row, name + suffix) for name in ("arm", "score", "cost_usd"))
    return [str(arm), f"{score:.2f}", _number(cost, ".6f")]


def _number(value: float, spec: str) -> str:
    return UNKNOWN if np.isnan(value) else format(value, spec)
