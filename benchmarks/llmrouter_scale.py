"""What LLMRouter's knn, svm and mlp cost on more and more train queries: the logs of `scale.py growth`, the same rows.

    python benchmarks/llmrouter_scale.py --peer PYTHON [--sizes 5000,50000] [--limit 900] [--routed 1000]

PYTHON is that of an environment with llmrouter-lib (docs/peers.md). Whole processes are measured, in CPU seconds and
peak memory by the operating system's own count: `llmrouter train` with the settings of its repository's configs, and
one that routes `--routed` queries by its own `route_single`. Both read ready embeddings (our tfidf, 256 numbers a
prompt) and no text is encoded. What 100 train queries cost is imports and reading, mostly. A training that takes more
CPU time than `--limit` is stopped, and not tried on more queries.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from llmrouter import ORDERS, Peer
from scale import GROWTH_ARMS, TRAIN_SHARE, measured
from scale_log import write_log
from tabulate import tabulate

from recal_bench.experiments.bench import load_bench

NAMES, STARTED_ON = ("knn", "svm", "mlp"), 100


def cost(python: Path, size: int, names: list[str], limit: int, n_routed: int) -> list[list[str]]:
    """A row for each router; what was stopped is taken out of `names`."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_log(folder / "log.parquet", int(size / TRAIN_SHARE), GROWTH_ARMS)
        bench = load_bench(folder / "log.parquet")
        test = bench.splits.test.take(np.arange(min(n_routed, len(bench.splits.test))))
        peer = Peer(python, folder, bench, test, "tfidf")
        learnt = len(bench.splits.train) + len(bench.splits.validation)
        for each in list(names):
            train, _ = measured(peer.train_command(each, ORDERS[0]), folder / "cache", limit, peer.env())
            if train["stopped"]:
                names.remove(each)
                rows.append([each, f"{learnt:,}", f"stopped at {limit:,} s", "", f"{train['peak_mib']:,.0f}"])
            else:
                route, _ = measured(peer.route_command(each, ORDERS[0]), folder / "cache", limit, peer.env())
                routed = "stopped" if route["stopped"] else f"{route['cpu_s']:.1f}"
                peak = max(train["peak_mib"], route["peak_mib"])
                rows.append([each, f"{learnt:,}", f"{train['cpu_s']:.1f}", routed, f"{peak:,.0f}"])
            print(*rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, required=True, help="the python of an environment with llmrouter-lib")
    parser.add_argument("--sizes", type=lambda text: tuple(map(int, text.split(","))), default=(5_000, 50_000))
    parser.add_argument("--limit", type=int, default=900, help="CPU seconds of one training")
    parser.add_argument("--routed", type=int, default=1_000, help="test queries that are routed")
    asked = parser.parse_args()
    names, rows = list(NAMES), []
    for size in (STARTED_ON, *asked.sizes):
        rows += cost(asked.peer, size, names, asked.limit, asked.routed)
    headers = ["LLMRouter", "learnt from", "train, CPU s", f"route {asked.routed:,}, CPU s", "peak, MiB"]
    print("\n" + tabulate(sorted(rows, key=lambda row: row[0]), headers, "github", disable_numparse=True))


if __name__ == "__main__":
    main()
