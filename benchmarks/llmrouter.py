"""Our routers beside LLMRouter's of the same kind: the same rows, the same embeddings, the same queries.

The outcomes are LLMRouter's own (llmrouter_default14: 14 tasks, 9 models). Of their 500 test prompts 119 are also in
train; those rows are dropped from both sides' train, and the 381 others are what is compared. LLMRouter learns from
our train and validation together. Its label of a query is the first row of the highest score, so that among models
that tie the order of the rows decides: it is trained with the rows as they are in the file and with the strongest
model first. Both read the same 384 numbers a prompt (MiniLM); LLMRouter is trained by its own command, with the
settings of its repository's configs, and routes by its own `route_single`, whose Longformer is replaced by a look-up.

Quality: accuracy over the 381 queries and its paired difference to the better of LLMRouter's two orders, with the
interval over seeds and queries. Speed: whole processes from start to end, imports included. LLMRouter's are
`llmrouter train` and one that routes the 381 queries; ours loads the outcomes, fits and routes all 500.

Run with `python benchmarks/llmrouter.py --peer PYTHON [--tuned FILE]`, PYTHON being that of an environment with
llmrouter-lib (docs/peers.md), FILE settings for these outcomes (leaderboards/llmrouter14/tuned.json). RECAL_BENCH_DATA
names the folder with the outcomes. Without --peer ours are measured alone.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before numpy is imported, so that both use one core.
os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")

import numpy as np
import yaml
from tabulate import tabulate

from recal_bench.encoders import fit_encoder
from recal_bench.evaluation.statistics import crossed_interval
from recal_bench.experiments.bench import Bench, load_bench, queries_of
from recal_bench.experiments.tuning import read_tuned
from recal_bench.folders import shipped
from recal_bench.outcomes import Outcomes
from recal_bench.outcomes.splits import normalized_prompt
from recal_bench.routers import Context, create, decide, fit_seeds, load_folder

FILE = "llmrouter_default14.parquet"
ENCODER, WIDTH = "minilm", 384
SEEDS, REPEATS, TIMINGS = 5, 3, 3
ORDERS = ("file order", "strongest first")
# LLMRouter's: class, command's name, the settings of its configs, whether it is drawn by chance.
PEERS: dict[str, tuple[str, str, dict[str, Any], bool]] = {
    "knn": ("KNNRouter", "knnrouter", {"n_neighbors": 5, "weights": "uniform", "metric": "minkowski", "p": 2}, False),
    "svm": ("SVMRouter", "svmrouter", {"kernel": "rbf", "C": 1.0, "gamma": "scale", "probability": True}, False),
    "mlp": (
        "MLPRouter",
        "mlprouter",
        {"hidden_layer_sizes": [128, 64], "lr": 0.001, "epochs": 100, "batch_size": 32, "alpha": 1e-4},
        True,
    ),
    "mf": ("MFRouter", "mfrouter", {"latent_dim": 128, "text_dim": WIDTH, "lr": 0.001, "epochs": 5}, True),
}
OURS = {"knn": "knn", "svm": "svm", "mlp": "mlp", "routellm-mf": "mf", "embedllm": "mf"}
# Runs in LLMRouter's environment: a router, its config, the prompts' embeddings, the queries, where the answers go.
ROUTE = """
import importlib, json, sys
import torch
name, config, embeddings, queries, out = sys.argv[1:]
cls = getattr(importlib.import_module("llmrouter.models"), name)
known = dict(zip(json.load(open(queries + ".all")), torch.load(embeddings), strict=True))
sys.modules[cls.__module__].get_longformer_embedding = lambda text: known[text]
router = cls(yaml_path=config)
json.dump([router.route_single({"query": each})["model_name"] for each in json.load(open(queries))], open(out, "w"))
"""
CONVERT = "import sys, numpy, torch; torch.save(torch.from_numpy(numpy.load(sys.argv[1])), sys.argv[2])"


def clean_test(bench: Bench, train_prompts: set[str]) -> Outcomes:
    """The test queries whose prompts train never held."""
    test = bench.splits.test
    return test.take(np.array([normalized_prompt(prompt) not in train_prompts for prompt in test.prompt_Q]))


def prompts_of_train(path: Path) -> set[str]:
    import pandas as pd

    frame = pd.read_parquet(path, columns=["split", "prompt"])
    return {normalized_prompt(prompt) for prompt in frame.loc[frame["split"] == "train", "prompt"]}


def our_scores(bench: Bench, test: Outcomes, name: str, settings: dict[str, Any], seeds: Sequence[int]) -> np.ndarray:
    """The score of the chosen arm, `[S, Q]`."""
    routers = [create(name, settings) for _ in (seeds[:1] if create(name).deterministic else seeds)]
    contexts = [Context(seed, "cpu", Path(), lambda line: None) for seed in seeds[: len(routers)]]
    fit_seeds(routers, bench.train, bench.validation, contexts)
    chosen = [np.asarray(decide(router, queries_of(test), bench.calls(test)).arm_Q) for router in routers]
    return np.stack([test.score_QA[np.arange(len(test)), arm_Q] for arm_Q in chosen])


class Peer:
    """LLMRouter in an environment of its own, with our train and validation as its train."""

    def __init__(self, python: Path, folder: Path, bench: Bench, test: Outcomes, encoder: str = ENCODER) -> None:
        self.python, self.folder, self.test = python, folder, test
        train = [bench.splits.train, bench.splits.validation]
        prompts = [*(prompt for part in train for prompt in part.prompt_Q), *test.prompt_Q]
        encoding_QE = fit_encoder(encoder, prompts).encode(prompts)
        np.save(folder / "embeddings.npy", encoding_QE)
        subprocess.run(
            [python, "-c", CONVERT, folder / "embeddings.npy", folder / "embeddings.pt"], check=True, env=self.env()
        )
        (folder / "queries.json").write_text(json.dumps(list(test.prompt_Q)), encoding="utf-8")
        (folder / "queries.json.all").write_text(json.dumps(prompts), encoding="utf-8")
        score_QA = np.concatenate([part.score_QA for part in train])
        names = [arm.model for arm in bench.splits.train.arms]
        arms = {"file order": np.arange(len(names)), "strongest first": np.argsort(-score_QA.mean(axis=0))}
        for order, order_A in arms.items():
            with (folder / f"{order}.jsonl").open("w", encoding="utf-8") as file:
                for row, score_A in enumerate(score_QA):
                    for arm in order_A:
                        line = {"query": prompts[row], "model_name": names[arm], "performance": float(score_A[arm])}
                        file.write(json.dumps({**line, "embedding_id": row, "task_name": "any"}) + "\n")

    def env(self) -> dict[str, str]:
        # Else LiteLLM, which LLMRouter imports, looks for prices on the net first.
        return {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}

    def _config(self, name: str, order: str) -> Path:
        path = self.folder / f"{name}-{order}.yaml"
        data = {
            "query_embedding_data": str(self.folder / "embeddings.pt"),
            "routing_data_train": str(self.folder / f"{order}.jsonl"),
        }
        saved = str(self.folder / "saved" / f"{name}.pkl")
        models = {"ini_model_path": "", "save_model_path": saved, "load_model_path": saved}
        content = {"data_path": data, "model_path": models, "hparam": PEERS[name][2], "metric": {"weights": {}}}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        (self.folder / "saved").mkdir(exist_ok=True)
        return path

    def train_command(self, name: str, order: str) -> list[str]:
        """LLMRouter's own."""
        config = str(self._config(name, order))
        command = str(self.python.with_name("llmrouter"))
        return [command, "train", "--router", PEERS[name][1], "--config", config, "--device", "cpu"]

    def route_command(self, name: str, order: str) -> list[str]:
        """Routes the test queries by what was trained last, into `answers.json`."""
        files = [self.folder / "embeddings.pt", self.folder / "queries.json", self.folder / "answers.json"]
        return [str(self.python), "-c", ROUTE, PEERS[name][0], str(self._config(name, order)), *map(str, files)]

    def train(self, name: str, order: str) -> float:
        """Seconds of LLMRouter's own command."""
        begin = time.monotonic()
        subprocess.run(self.train_command(name, order), check=True, env=self.env(), stdout=subprocess.DEVNULL)
        return time.monotonic() - begin

    def scores(self, name: str, order: str) -> np.ndarray:
        """The score of the model chosen for each test query, by what was trained last."""
        subprocess.run(self.route_command(name, order), check=True, env=self.env(), stdout=subprocess.DEVNULL)
        out = self.folder / "answers.json"
        models = [arm.model for arm in self.test.arms]
        arm_Q = np.array([models.index(chosen) for chosen in json.loads(out.read_text(encoding="utf-8"))])
        return self.test.score_QA[np.arange(len(arm_Q)), arm_Q]


def quality(bench: Bench, test: Outcomes, peer: Peer | None, tuned: Path | None) -> None:
    found: dict[tuple[str, str], np.ndarray] = {}
    for name, (*_, by_chance) in PEERS.items() if peer else ():
        for order in ORDERS:
            repeats = []
            for _ in range(REPEATS if by_chance else 1):
                peer.train(name, order)
                repeats.append(peer.scores(name, order))
            found[name, order] = np.stack(repeats)
    rows = [[f"LLMRouter {name}, {order}", f"{100 * each.mean():.1f}", "", ""] for (name, order), each in found.items()]
    chosen = read_tuned(tuned, bench) if tuned else {}
    for name, kind in OURS.items():
        sets = {"defaults, the same embeddings": {"encoder": ENCODER}}
        sets |= (
            {f"tuned on validation, {len(chosen[name].trials)} trials": chosen[name].settings} if name in chosen else {}
        )
        for what, settings in sets.items():
            score_SQ = our_scores(bench, test, name, settings, range(SEEDS))
            row = [f"{name}, {what}", f"{100 * score_SQ.mean():.1f}", "", ""]
            if peer:
                better = max(ORDERS, key=lambda order: found[kind, order].mean())
                interval = crossed_interval([score_SQ, -found[kind, better]], np.zeros(len(test)))
                shown = (100 * value for value in interval[:3])
                row[2:] = ["{:+.1f} [{:+.1f}, {:+.1f}]".format(*shown), better]
            rows.append(row)
    best = int(np.argmax(np.concatenate([bench.splits.train.score_QA, bench.splits.validation.score_QA]).mean(axis=0)))
    rows.append(["best single model", f"{100 * test.score_QA[:, best].mean():.1f}", "", ""])
    headers = ["router", "accuracy %", "against LLMRouter's better order [95%]", "which is"]
    print(tabulate(rows, headers, "pipe", disable_numparse=True), "\n", flush=True)


def row_order_changes_nothing(path: Path, test: Outcomes, folder: Path) -> bool:
    """Whether our routers decide alike on the file with its rows shuffled."""
    import pandas as pd

    pd.read_parquet(path).sample(frac=1, random_state=0).to_parquet(folder / FILE, index=False)
    benches = [load_bench(path), load_bench(folder / FILE)]
    pairs = [[our_scores(bench, test, name, {"encoder": ENCODER}, [0]) for bench in benches] for name in OURS]
    return all(np.array_equal(*pair) for pair in pairs)


def speed(peer: Peer | None) -> None:
    rows = []
    for name in ("knn", "svm", "mlp"):
        ours, trained, routed = [], [], []
        for _ in range(TIMINGS):
            # In turn, so that what else the machine does hits both.
            begin = time.monotonic()
            subprocess.run([sys.executable, __file__, "--fit-and-route", name], check=True)
            ours.append(time.monotonic() - begin)
            if peer:
                trained.append(peer.train(name, ORDERS[0]))
                begin = time.monotonic()
                peer.scores(name, ORDERS[0])
                routed.append(time.monotonic() - begin)
        row = [name, f"{np.median(ours):.1f}"]
        if peer:
            theirs = np.median(np.add(trained, routed))
            row += [f"{np.median(trained):.1f}", f"{np.median(routed):.1f}", f"{theirs / np.median(ours):.1f}"]
        rows.append(row)
    headers = ["router", "ours: load, fit and route, s", "`llmrouter train`, s", "its routing, s", "ratio"]
    print(tabulate(rows, headers, "pipe", disable_numparse=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", type=Path, help="the python of an environment with llmrouter-lib")
    parser.add_argument("--tuned", type=Path, help="settings for these outcomes")
    parser.add_argument("--only", choices=("quality", "speed"), help="one of the two parts")
    parser.add_argument("--fit-and-route", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    data = os.environ.get("RECAL_BENCH_DATA")
    if not data:
        sys.exit(f"name the folder of {FILE} in the environment variable RECAL_BENCH_DATA")
    load_folder(shipped("baselines"))
    path = Path(data) / FILE
    bench = load_bench(path)
    if asked.fit_and_route:
        our_scores(bench, bench.splits.test, asked.fit_and_route, {"encoder": ENCODER}, [0])
        return
    test = clean_test(bench, prompts_of_train(path))
    learnt = len(bench.splits.train) + len(bench.splits.validation)
    print(f"{bench.data.name} ({bench.data.hash}): learnt from {learnt:,} queries, {len(test)} test queries\n")
    with tempfile.TemporaryDirectory() as folder:
        peer = Peer(asked.peer, Path(folder), bench, test) if asked.peer else None
        if asked.only != "speed":
            quality(bench, test, peer, asked.tuned)
            print(f"ours decide alike with the rows shuffled: {row_order_changes_nothing(path, test, Path(folder))}\n")
        if asked.only != "quality":
            speed(peer)


if __name__ == "__main__":
    main()
