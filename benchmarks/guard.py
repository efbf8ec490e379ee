"""What a guard changes: routers at their defaults, and the same routers guarded, against best-single.

Three sets of outcomes: `routerdc` (routerdc_7llm: 7 models, its own test and ood splits), `llmrouter14-by-prompt`
(llmrouter_default14: 14 tasks, 9 models, split again by prompt) and `embedded` (the simulated pool, world 61). How
cautious a guard is was chosen on validation (`guard=auto`). A difference is that of the utility (on `embedded` of the
expected one) to best-single, with its 95% interval over seeds and queries; harm is the share of tasks of all evaluated
splits on which a router is below best-single at 95%. Caution is that of each seed's guard, held back the share of the
queries of a split on which the guard kept best-single's arm against the router.

Run with `python benchmarks/guard.py [LOG ...] [--routers A,B] [--seeds N] [--runs DIR]`; each set can be run alone, and
what DIR holds is not run again. RECAL_BENCH_DATA names the folder with the logs.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from boards import BOARDS, log_of
from tabulate import tabulate

from recal_bench import routers
from recal_bench.experiments.bench import load_bench
from recal_bench.experiments.plans import plan
from recal_bench.experiments.records import Run
from recal_bench.experiments.runs import run_plans
from recal_bench.reporting.figures.compare import Comparison, compare

LOGS = ("routerdc", "llmrouter14-by-prompt", "embedded")
ROUTERS = ("knn", "ridge", "svm", "mlp", "recal", "graphrouter")
WORLD = 61


def lines_of(names: list[str], runs: list[Run]) -> list[list[str]]:
    """For each router and split the difference to best-single before and after, and what the guards did."""
    rows = {row.router: row for row in compare(runs)}
    lines = []
    for name in names:
        before, after = rows[name], rows[f"guarded-{name}"]
        guards = [each.record.guard for each in runs if each.record.configuration.router == after.router]
        for split in ("test", *before.splits):
            held = np.mean([guard.held_back[split] for guard in guards if guard])
            first = (
                [name, " ".join(sorted({f"{guard.caution}" for guard in guards if guard}))]
                if split == "test"
                else ["", ""]
            )
            harm = [_percent(before.harm), _percent(after.harm)] if split == "test" else ["", ""]
            lines.append(
                [*first, split, _difference(before, split), _difference(after, split), f"{100 * held:.0f}%", *harm]
            )
    return lines


def _difference(row: Comparison, split: str) -> str:
    found = (row if split == "test" else row.splits[split]).vs_baseline
    if found is None or found.ci is None:
        return "-"
    return f"{found.difference:+.3f} [{found.ci[0]:+.3f}, {found.ci[1]:+.3f}]"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.0f}%"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="*", metavar="LOG", help=f"of {', '.join(LOGS)} (default: all)")
    parser.add_argument("--routers", default=",".join(ROUTERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--runs", type=Path)
    given = parser.parse_args()
    unknown = [log for log in given.logs if log not in LOGS]
    if unknown:
        parser.error(f"there is no log {', '.join(unknown)}: name some of {', '.join(LOGS)}")
    names = given.routers.split(",")
    routers.discover()
    header = ["router", "caution", "split", "unguarded", "guarded", "held back", "harm", "harm guarded"]
    with tempfile.TemporaryDirectory() as scratch:
        for log in given.logs or LOGS:
            bench = load_bench(log_of(log)) if BOARDS[log] else load_bench(world_seed=WORLD)
            wanted = [word for name in names for word in (name, f"guarded-{name}")]
            runs = run_plans(bench, plan(bench, wanted, seeds=given.seeds), (given.runs or Path(scratch)) / log)
            sizes = ", ".join(f"{count:,} {split}" for split, count in bench.data.n_queries.items())
            print(f"\n{log} ({bench.data.hash[:12]}): {sizes} queries, {len(bench.data.arms)} arms\n")
            print(tabulate(lines_of(names, runs), header, tablefmt="github", disable_numparse=True), flush=True)


if __name__ == "__main__":
    main()
