"""How often the leak audit of decisions from elsewhere (docs/external.md) speaks up: with a leak, and without one.

    python benchmarks/leak_audit.py world:61 world:62 routerdc_7llm.parquet --out leak_audit.json

Without a leak: the choices of shipped routers, which learn from train alone, on the outcomes as they are and, in worlds
of the embedded pool, on scores drawn again from the truth. There `bayes`, which knows the truth, stands for a router
that reads the text better than any model here. With a leak: the choices of one router, but for a share of test drawn by
lot, where they are the oracle's. Files are looked for in the folder that the environment variable RECAL_BENCH_DATA
names, and here.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from cross_validation import bench_of
from tabulate import tabulate

from recal_bench import routers
from recal_bench.errors import RecalBenchError
from recal_bench.evaluation import references
from recal_bench.experiments.bench import Bench, queries_of
from recal_bench.experiments.fitness import require_fit_for
from recal_bench.experiments.leak_audit import against_ceiling, audited, ceiling_of, expectation
from recal_bench.experiments.replay import bayes_arms
from recal_bench.routers import Context, decide
from recal_bench.toolbox.leaks import FOLLOWS_P

ROUTERS = (
    "knn,ridge,ridge-tasks,hierarchy,logistic,mlp,gradient-boosting,svm,elo,borda,uniroute,avengers,carrot,irt,linucb,"
    "thompson,best-single,random,cheapest,recal"
)
BASE, SHARES, DRAWS = "knn", (0.05, 0.1, 0.2), 10
BAYES = "bayes"


def choices(bench: Bench, names: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """What routers choose on test that are fitted to train; those that refuse the outcomes are left out."""
    test = bench.splits.test
    for name in names:
        router = routers.create(name)
        try:
            require_fit_for(bench, name, router)
            with tempfile.TemporaryDirectory() as folder:
                context = Context(0, "cpu", Path(folder), lambda line: None)
                routers.fit_seeds([router], bench.train, bench.validation, [context])
            yield name, np.asarray(decide(router, queries_of(test), bench.calls(test)).arm_Q)
        except RecalBenchError as error:
            print(f"{bench.data.name}: {name} left out: {error}", flush=True)
    if test.expected_score_QA is not None:
        yield BAYES, bayes_arms(bench.objective, test)


def measured(name: str, wanted: list[str], redrawn: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The audits without a leak, and those with one."""
    bench = bench_of(name)
    test, expected, rng = bench.splits.test, expectation(bench), np.random.default_rng(0)
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    found = dict(choices(bench, wanted))

    ceiling = ceiling_of(bench)

    def line(router: str, value_QA: np.ndarray, arm_Q: np.ndarray, **more: Any) -> dict[str, Any]:
        audit = audited(bench, expected, value_QA, [arm_Q])
        audit = against_ceiling(bench, audit, value_QA, [arm_Q], ceiling)
        seen = {"follows": audit.follows, "beyond_ceiling": audit.beyond_ceiling}
        names = {"data": bench.data.name, "hash": bench.data.hash, "router": router}
        return {**names, **more, **audit.model_dump(), **seen}

    clean = [line(router, utility_QA, arm_Q) for router, arm_Q in found.items()]
    if test.expected_score_QA is not None:
        for _ in range(redrawn):
            score_QA = (rng.random(test.score_QA.shape) < test.expected_score_QA).astype(np.float64)
            drawn_QA = bench.objective.utility(score_QA, test.cost_QA)
            for router, arm_Q in found.items():
                clean.append(line(router, drawn_QA, arm_Q, redrawn=True))
    oracle_Q = references.oracle(utility_QA, test.cost_QA)
    leaked = []
    for share in SHARES:
        for _ in range(DRAWS):
            arm_Q = np.where(rng.random(len(test)) < share, oracle_Q, found[BASE])
            leaked.append(line(BASE, utility_QA, arm_Q, share=share))
    return clean, leaked


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", nargs="+")
    parser.add_argument("--routers", default=ROUTERS)
    parser.add_argument("--redrawn", type=int, default=10, help="how often the scores of a world are drawn again")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    routers.discover()
    clean, leaked = [], []
    for name in asked.data:
        of_clean, of_leaked = measured(name, asked.routers.split(","), asked.redrawn)
        clean, leaked = clean + of_clean, leaked + of_leaked
        print(f"{name}: done", flush=True)
    print(f"\nWithout a leak: p below {FOLLOWS_P:g}, and the least p")
    for who in ("shipped", BAYES):
        rows = [row for row in clean if (row["router"] == BAYES) == (who == BAYES)]
        for kind in (False, True):
            part = [row for row in rows if row.get("redrawn", False) == kind]
            if part:
                worst = min(part, key=lambda row: row["p"])
                flagged, beyond = (sum(row[key] for row in part) for key in ("follows", "beyond_ceiling"))
                how = "scores drawn again" if kind else "as logged"
                print(
                    f"{who}, {how}: {flagged} of {len(part)}, {beyond} beyond the ceiling "
                    f"({worst['p']:.2g}, {worst['router']} on {worst['data']}); p below 0.05: "
                    f"{np.mean([row['p'] < 0.05 for row in part]):.1%}"
                )
    table = []
    for data in dict.fromkeys(row["data"] for row in leaked):
        for share in SHARES:
            part = [row for row in leaked if (row["data"], row["share"]) == (data, share)]
            flagged, beyond = (sum(row[key] for row in part) for key in ("follows", "beyond_ceiling"))
            gain = float(np.mean([row["gain"] for row in part]))
            table.append([data, part[0]["queries"], share, f"{flagged}/{len(part)}", f"{beyond}/{len(part)}", gain])
    print(tabulate(table, ["data", "queries", "leaked", "follows", "beyond ceiling", "gain"], floatfmt=".3f"))
    if asked.out:
        asked.out.write_text(json.dumps({"clean": clean, "leaked": leaked}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
