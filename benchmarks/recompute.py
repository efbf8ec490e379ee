"""The figures of a board made again from its decisions, by pandas alone: does the report compute what it says?

Every run's `decisions.parquet` is read, and accuracy, cost, utility, regret, the arms' shares and the differences to
the baseline with their intervals are made again without any function of this package; they must agree with
`compare --format json` to 1e-9. Intervals are made where every task has ten queries or more, and where they do not
reach the ends of the scale, by the formulas of docs/metrics.md written out task by task.
Where an outcomes file is given, the scores and costs of the chosen arms are looked up in it as well, which shows that
the decisions hold what the file says (of runs without cascades, on a file that needs no rule for missing outcomes).

    python benchmarks/recompute.py runs
    python benchmarks/recompute.py runs --outcomes my_log.parquet

Exit code 1 where a figure differs.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t

TOLERANCE = 1e-9
SMALL_TASK, LEAST_DIFFERING, MOST = 10, 5, 1.0
"""Queries below which tasks are joined, differing queries up to which nothing is significant, where scales may end."""


def entries(runs: Path) -> list[dict[str, Any]]:
    """The rows: the runs of one router with one set of settings on the same outcomes, with their decisions."""
    found: dict[str, list[tuple[int, Path, dict[str, Any]]]] = defaultdict(list)
    for path in sorted(runs.glob("*/run.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        configuration = record["configuration"]
        key = json.dumps([configuration["data"], configuration["router"], configuration["settings"]], sort_keys=True)
        found[key].append((configuration["seed"], path.parent, record))
    made = []
    for each in found.values():
        each.sort(key=lambda one: one[0])
        shared = each[0][2]["configuration"]
        deterministic = each[0][2]["deterministic"] or each[0][2]["reference"]
        each = each[:1] if deterministic else each
        decisions = [pd.read_parquet(folder / "decisions.parquet") for _, folder, _ in each]
        row = {name: shared[name] for name in ("data", "router", "settings")}
        made.append(
            row | {"decisions": decisions, "seeds": [seed for seed, _, _ in each], "command": each[0][2]["command"]}
        )
    return made


def macro(frame: pd.DataFrame, column: str) -> float:
    """The mean of the tasks' means; NaN where one value is unknown."""
    return frame.groupby("task")[column].apply(lambda values: values.mean(skipna=False)).mean()


def figures(frames: list[pd.DataFrame], data: dict[str, Any], split: str) -> dict[str, float]:
    """What the JSON holds of one row on one split, over its seeds."""
    parts = [frame[frame["split"] == split] for frame in frames]
    paid = [part.assign(usd=1000 * (part["cost_usd"] + part["router_cost_usd"])) for part in parts]
    price = data["alpha"] / data["cost_ref"] if data["cost_ref"] else 0.0
    utility = []
    for part in parts:
        usd = part["cost_usd"] + part["router_cost_usd"]
        own = part["score"] - price * usd if price else part["score"]
        utility.append(part.assign(own=np.nan if data["unknown_costs"] else own))
    return {
        "n_queries": len(parts[0]),
        "accuracy_macro": float(np.mean([macro(part, "score") for part in parts])),
        "accuracy_micro": float(np.mean([part["score"].mean() for part in parts])),
        "cost_usd_per_1k": float(np.mean([macro(part, "usd") for part in paid])),
        "utility": float(np.mean([macro(part, "own") for part in utility])),
    }


def shares(frames: list[pd.DataFrame], split: str) -> float:
    """The share of the arm that is chosen most, over all seeds."""
    return float(
        np.mean([frame.loc[frame["split"] == split, "arm"].value_counts(normalize=True).max() for frame in frames])
    )


def against(entry: dict[str, Any], others: dict[str, dict[str, Any]], split: str) -> dict[str, float]:
    """The difference to the baseline, in utility or, where none is reported, accuracy; and the gap that is closed."""
    name = "accuracy_macro" if entry["data"]["unknown_costs"] else "utility"
    of = {what: figures(each["decisions"], each["data"], split)[name] for what, each in others.items()}
    ours = figures(entry["decisions"], entry["data"], split)[name]
    found = {"vs_baseline": ours - of["baseline"]}
    if "oracle" in of and name == "utility":
        found["gap_closed"] = (ours - of["baseline"]) / (of["oracle"] - of["baseline"])
    return found


def interval(entry: dict[str, Any], baseline: dict[str, Any], split: str) -> tuple[float, float] | None:
    """The crossed interval of the difference to the baseline, in plain numpy; None where small tasks are joined."""
    ours, theirs = ([_by_task(frame, each["data"], split) for frame in each["decisions"]] for each in (entry, baseline))
    tasks = list(ours[0])
    counts = [len(ours[0][task]) for task in tasks]
    if min(counts) < SMALL_TASK:
        return None
    paired = len(ours) > 1 and entry["seeds"] == baseline["seeds"]
    if paired:
        parts = [[{task: one[task] - other[task] for task in tasks} for one, other in zip(ours, theirs, strict=True)]]
    else:
        parts = [ours, [{task: -other[task] for task in tasks} for other in theirs]]
    share = 1 / len(tasks) ** 2
    estimate = v_seeds = v_interaction = squares = 0.0
    for part in parts:
        macros = [np.mean([seed[task].mean() for task in tasks]) for seed in part]
        estimate += float(np.mean(macros))
        if len(part) > 1:
            of_seeds = np.var(macros, ddof=1) / len(part)
            of_tasks = [share * _interaction(np.stack([seed[task] for seed in part])) for task in tasks]
            v_seeds, v_interaction = v_seeds + of_seeds, v_interaction + sum(of_tasks)
            squares += of_seeds**2 / (len(part) - 1)
            squares += sum(
                of_task**2 / ((len(part) - 1) * (count - 1)) for of_task, count in zip(of_tasks, counts, strict=True)
            )
    means = [sum(np.mean([seed[task] for seed in part], axis=0) for part in parts) for task in tasks]
    differing = sum(int((np.abs(mean) > 1e-12).sum()) for mean in means)
    v_tasks = [share * np.var(mean, ddof=1) / len(mean) for mean in means]
    squares += sum(v_task**2 / (count - 1) for v_task, count in zip(v_tasks, counts, strict=True))
    # Heavy tails: the fourth moment beyond a normal distribution's, less two standard errors of what chance shows.
    of_query = np.concatenate([share * (mean - mean.mean()) ** 2 / (len(mean) * (len(mean) - 1)) for mean in means])
    normal = 3 * sum(v_task**2 / count for v_task, count in zip(v_tasks, counts, strict=True))
    chance = np.sqrt(24 * sum(v_task**4 / count**3 for v_task, count in zip(v_tasks, counts, strict=True)))
    squares += max(float((of_query**2).sum()) - normal - 2 * float(chance), 0.0) / 2
    variance = v_seeds + max(sum(v_tasks) - v_interaction, 0.0)
    if not squares:
        return estimate, estimate
    half = float(t.ppf(0.975, variance**2 / squares)) * float(np.sqrt(variance))
    low, high = estimate - half, estimate + half
    if differing <= LEAST_DIFFERING and not low <= 0 <= high:
        return estimate - abs(estimate), estimate + abs(estimate)
    return low, high


def _by_task(frame: pd.DataFrame, data: dict[str, Any], split: str) -> dict[str, np.ndarray]:
    """The utilities (accuracies where none is reported) of a run's queries, by task and in the order of their names."""
    part = frame[frame["split"] == split].sort_values(["task", "query_id"], kind="stable")
    price = data["alpha"] / data["cost_ref"] if data["cost_ref"] and not data["unknown_costs"] else 0.0
    usd = part["cost_usd"] + part["router_cost_usd"]
    value = part["score"] - price * usd if price else part["score"]
    return {str(task): values.to_numpy(dtype=np.float64) for task, values in value.groupby(part["task"])}


def _interaction(value_SQ: np.ndarray) -> float:
    """The variance of a task's mean by what single seeds do on single queries."""
    n_seeds, n_queries = value_SQ.shape
    left_SQ = value_SQ - value_SQ.mean(axis=0) - value_SQ.mean(axis=1, keepdims=True) + value_SQ.mean()
    return float((left_SQ**2).sum() / ((n_seeds - 1) * (n_queries - 1)) / (n_seeds * n_queries))


def per_task(frames: list[pd.DataFrame]) -> dict[str, float]:
    """The accuracy of each task of test."""
    tests = [frame[frame["split"] == "test"] for frame in frames]
    of_seed = [test.groupby("task")["score"].apply(lambda values: values.mean(skipna=False)) for test in tests]
    return {str(task): float(value) for task, value in (sum(of_seed) / len(of_seed)).items()}


def estimates(frames: list[pd.DataFrame], data: dict[str, Any], split: str, mean: str) -> dict[str, float]:
    """SNIPS and IPS of the utility (the score where none is reported), of a log of single choices."""
    price = data["alpha"] / data["cost_ref"] if data["cost_ref"] else 0.0
    snips, ips = [], []
    for frame in frames:
        part = frame[frame["split"] == split]
        several = part["propensity"].isna()
        own = price * part["router_cost_usd"]
        score = part["score"].where(several, part["logged_score"])
        usd = part["cost_usd"].where(several, part["logged_cost_usd"])
        value = score if data["unknown_costs"] or not price else score - price * usd
        weight = (part["arm"] == part["logged_arm"]) / part["propensity"]
        part = part.assign(value=value, weight=weight.where(~several, 1.0), own=own)
        part["task"] = part["task"] if mean == "macro" else "all"
        part["weighted"] = part["weight"] * part["value"]
        of_task = part.groupby("task")[["weight", "weighted", "own"]].mean()
        snips.append((of_task["weighted"] / of_task["weight"] - of_task["own"]).mean())
        ips.append((of_task["weighted"] - of_task["own"]).mean())
    return {"snips": float(np.mean(snips)), "ips": float(np.mean(ips))}


def looked_up(entry: dict[str, Any], outcomes: pd.DataFrame) -> float:
    """The largest difference between a decision's score or cost and the outcomes file's."""
    named = outcomes.assign(arm=outcomes["model"].astype(str) + "|" + outcomes["strategy"].astype(str))
    worst = 0.0
    for frame in entry["decisions"]:
        alone = frame[frame["calls"] == 1].astype({"query_id": str})
        both = alone.merge(named, on=["task", "query_id", "arm"], how="left", suffixes=("", "_file"), validate="m:1")
        for ours, theirs in (("score", "score_file"), ("cost_usd", "cost_usd_file")):
            if theirs in both and both[theirs].notna().any():
                worst = max(worst, float((both[ours] - both[theirs]).abs().max()))
    return worst


def interval_pairs(
    split: str, theirs: dict[str, Any], entry: dict[str, Any], baseline: dict[str, Any]
) -> list[tuple[Any, ...]]:
    """Both ends of the interval of the difference to the baseline, where the report has one and it can be made."""
    accuracy = bool(entry["data"]["unknown_costs"])
    name = "accuracy_vs_baseline" if accuracy else "utility_vs_baseline"
    reported = theirs.get(name) or (None if accuracy else theirs.get("vs_baseline"))
    ours = interval(entry, baseline, split) if reported and reported["ci"] else None
    if ours is None or not -MOST < ours[0] <= ours[1] < MOST:
        return []
    return [
        (f"{split}, {name}.ci.{end}", reported["ci"][place], ours[place]) for place, end in enumerate(("low", "high"))
    ]


def pairs_of(row: dict[str, Any], entry: dict[str, Any], others: dict[str, dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What of a row is compared: where, the reported figure, and pandas' own."""
    pairs: list[tuple[Any, ...]] = []
    for split in ("test", *row["splits"]):
        theirs = row if split == "test" else row["splits"][split]
        if "snips" in row:
            if theirs["snips"] is not None:
                ours = estimates(entry["decisions"], entry["data"], split, theirs["mean"])
                pairs += [(f"{split}, {name}", theirs[name]["value"], value) for name, value in ours.items()]
            continue
        ours = figures(entry["decisions"], entry["data"], split)
        pairs += [(f"{split}, {name}", theirs[name], value) for name, value in ours.items()]
        compared = {
            "vs_baseline": (theirs.get("vs_baseline") or {}).get("difference"),
            "gap_closed": theirs["gap_closed"],
        }
        for name, value in against(entry, others, split).items():
            if compared[name] is not None:
                pairs.append((f"{split}, {name}", compared[name], value))
        pairs += interval_pairs(split, theirs, entry, others["baseline"])
        pairs.append((f"{split}, top_arm_share", theirs["top_arm_share"], shares(entry["decisions"], split)))
    if "snips" not in row:
        pairs += [
            (f"accuracy of {task}", row["per_task"][task], value)
            for task, value in per_task(entry["decisions"]).items()
        ]
    return pairs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path)
    parser.add_argument("--outcomes", type=Path, help="The parquet file that the runs were made on.")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "recal_bench", "compare", str(arguments.runs), "--format", "json"]
    rows = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
    made = entries(arguments.runs)
    outcomes = None
    if arguments.outcomes:
        outcomes = pd.read_parquet(arguments.outcomes).astype({"query_id": str})
        outcomes = outcomes.drop_duplicates(["task", "query_id", "model", "strategy"])
    checked, wrong = 0, []
    for row in rows:
        named = (row["router"], row["settings"], row["data_hash"])
        alike = [
            each
            for each in made
            if (each["router"], each["settings"], each["data"]["hash"]) == named
            and row["command"].startswith(each["command"])
        ]
        if not alike:
            continue  # the row of a log itself has no run
        entry = max(alike, key=lambda each: len(each["command"]))
        beside = {each["router"]: each for each in made if each["data"] == entry["data"]}
        others = {"baseline": beside[row["baseline"]]} | ({"oracle": beside["oracle"]} if "oracle" in beside else {})
        for where, reported, value in pairs_of(row, entry, others):
            reported = np.nan if reported is None else reported
            checked += 1
            if not (np.isnan(value) and np.isnan(reported)) and not abs(value - reported) <= TOLERANCE:
                wrong.append(f"{row['router']}, {where}: {reported!r} reported, {value!r} by pandas")
        if outcomes is not None:
            checked += 1
            off = looked_up(entry, outcomes)
            if not off <= TOLERANCE:
                wrong.append(f"{row['router']}: a decision's score or cost is {off:g} off the outcomes file's")
    print("\n".join([*wrong, f"{checked:,} figures of {len(rows)} rows checked, {len(wrong)} differ"]))
    sys.exit(bool(wrong) or not checked)


if __name__ == "__main__":
    main()
