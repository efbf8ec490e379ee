"""The figures of a board made again from its decisions, by pandas alone: does the report compute what it says?

Every run's `decisions.parquet` is read, and accuracy, cost, utility, regret, the arms' shares and the differences to
the baseline are made again without any function of this package; they must agree with `compare --format json` to 1e-9.
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

TOLERANCE = 1e-9


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
        decisions = [pd.read_parquet(folder / "decisions.parquet") for _, folder, _ in each]
        row = {name: shared[name] for name in ("data", "router", "settings")}
        made.append(row | {"decisions": decisions, "command": each[0][2]["command"]})
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
