"""What is asked about: the documents of lm-eval tasks, of their own data, of files, or of the embedded world."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from recal_bench.errors import EndpointError, near_miss
from recal_bench.folders import cache_folder, shipped, written_whole
from recal_bench.tasks import Task, load_tasks, write_local_task

SPLITS = ("train", "validation", "test")
HUB, EMBEDDED = "hub", "embedded"


class Document(NamedTuple):
    """One query. `prompt` is what the task's `doc_to_text` makes of lm-eval's `doc`; `gold` is a JSON list."""

    task: str
    split: str
    query_id: str
    prompt: str
    gold: str
    doc: dict[str, Any]


class Questions:
    """The documents of one lm-eval task in some of its splits: counted, and read one by one."""

    def __init__(self, name: str, task: Any, splits: Sequence[str], limits: Mapping[str, int]) -> None:
        self.name, self.task = name, task
        self._docs: dict[str, Any] = {}
        for split in splits:
            docs = _docs_of(task, split)
            if docs is not None:
                rows = self._distinct(docs, _chosen(name, split, len(docs), limits.get(split)))
                self._docs[split] = docs.select(rows) if hasattr(docs, "select") else [docs[row] for row in rows]

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self._docs)

    def count(self, split: str) -> int:
        """How many documents are asked of a split."""
        return len(self._docs[split])

    def documents(self, split: str) -> Iterator[Document]:
        """The documents of a split, in their order."""
        for doc in self._docs[split]:
            query_id, prompt = self._key(doc)
            gold = doc.get("golden_answers")
            gold = self.task.doc_to_target(doc) if gold is None else gold
            texts = [str(each) for each in gold] if isinstance(gold, (list, tuple)) else [str(gold)]
            yield Document(self.name, split, query_id, prompt, json.dumps(texts, ensure_ascii=False), doc)

    def _key(self, doc: dict[str, Any]) -> tuple[str, str]:
        """Identifier and prompt: the document's own identifier, or a digest of the prompt."""
        prompt = self.task.doc_to_text(doc)
        if not isinstance(prompt, str):
            raise EndpointError(f"task {self.name} asks no text: `collect` needs a `doc_to_text` that gives text")
        if doc.get("id") not in (None, ""):
            return str(doc["id"]), prompt
        return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()[:16], prompt

    def _distinct(self, docs: Any, rows: list[int]) -> list[int]:
        """The rows without repetitions of a query. Raises EndpointError where two queries have one identifier."""
        first: dict[str, int] = {}
        kept = []
        for row in rows:
            query_id, prompt = self._key(docs[row])
            earlier = first.setdefault(query_id, row)
            if earlier == row:
                kept.append(row)
            elif self._key(docs[earlier])[1] != prompt:
                raise EndpointError(
                    f"task {self.name}: two questions have the id {query_id} (rows {earlier + 1} and {row + 1}): give "
                    "each its own"
                )
        return kept


def load_questions(
    names: Sequence[str],
    source: str,
    splits: Sequence[str],
    limits: Mapping[str, int],
    include_paths: Sequence[Path] = (),
    world_seed: int = 0,
) -> list[Questions]:
    """The named tasks with their documents.

    `source` is HUB (each task's own data), EMBEDDED (the embedded world's questions) or a folder that holds
    `TASK.jsonl` or `TASK/SPLIT.jsonl`. Names are the shipped tasks', those of `include_paths`, or lm-eval's own. Raises
    RecalBenchError where a task is not known, cannot be asked of a chat endpoint, or has no data.
    """
    known = load_tasks()
    with_defaults = bool(set(names) - set(known)) and not include_paths
    if source == HUB:
        folders, wanted = [shipped("tasks"), *include_paths], list(names)
    else:
        folders, wanted = [_local_tasks(names, known, source, world_seed)], list(names)
    found = _load(wanted, folders, with_defaults and source == HUB, known)
    questions = [Questions(name, found[name], splits, limits) for name in wanted]
    for each in questions:
        if not each.splits:
            raise EndpointError(
                f"task {each.name} has no split {' or '.join(splits)}: it has {', '.join(_splits_of(each.task))}"
            )
    return questions


def _load(names: list[str], folders: list[Path], with_defaults: bool, known: Mapping[str, Task]) -> dict[str, Any]:
    import datasets
    from lm_eval.tasks import TaskManager

    for talkative in ("lm_eval", "huggingface_hub"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    manager = TaskManager(include_path=[str(folder) for folder in folders], include_defaults=with_defaults)
    found: dict[str, Any] = {}
    for name in names:
        if name not in manager.all_subtasks:
            hint = near_miss(name, [*known, *manager.all_subtasks])
            raise EndpointError(f"no task is called {name}{hint}: `recal-bench tasks` lists those that are shipped")
        try:
            (found[name],) = manager.load([name])["tasks"].values()
        except Exception as error:  # The hub, its files and their parsers raise almost anything.
            reason = " ".join(str(error).split())[:200]
            raise EndpointError(
                f"the data of task {name} cannot be loaded ({type(error).__name__}: {reason}): without a network give "
                "the questions as files (--questions FOLDER) or take those of the embedded world (--questions embedded)"
            ) from error
        if found[name].OUTPUT_TYPE != "generate_until":
            raise EndpointError(
                f"task {name} compares likelihoods ({found[name].OUTPUT_TYPE}), which chat endpoints do not give: "
                "choose a task that generates text"
            )
    return found


def _docs_of(task: Any, split: str) -> Any:
    """The documents of a split, None where the task has none. Its test is what lm-eval evaluates."""
    if split == "train":
        return task.training_docs() if task.has_training_docs() else None
    if split == "validation":
        return task.validation_docs() if task.has_validation_docs() and task.has_test_docs() else None
    return task.eval_docs if task.has_test_docs() or task.has_validation_docs() else None


def _splits_of(task: Any) -> list[str]:
    return [split for split in SPLITS if _docs_of(task, split) is not None]


def _chosen(task: str, split: str, count: int, limit: int | None) -> list[int]:
    """The rows that are asked: all, or this many, drawn evenly. A larger limit holds those of a smaller one."""
    if limit is None or limit >= count:
        return list(range(count))
    seed = int.from_bytes(hashlib.sha256(f"{task}/{split}".encode()).digest()[:8], "little")
    drawn: list[int] = np.random.default_rng(seed).permutation(count)[:limit].tolist()
    return sorted(drawn)


def _local_tasks(names: Sequence[str], known: Mapping[str, Task], source: str, world_seed: int) -> Path:
    """A folder of task files that read local data, in the cache: `datasets` then finds its copy again."""
    for name in names:
        if name not in known:
            raise EndpointError(
                f"questions from {source} are for the shipped tasks, and {name} is not one{near_miss(name, known)}: "
                f"use --questions {HUB}, or one of {', '.join(known)}"
            )
    folder = _embedded_files(world_seed) if source == EMBEDDED else Path(source)
    if not folder.is_dir():
        raise EndpointError(f"there is no folder {folder} of questions: give {HUB}, {EMBEDDED} or a folder")
    files = {name: _files(folder, name) for name in names}
    listed = json.dumps({name: {split: str(path) for split, path in each.items()} for name, each in files.items()})
    local = cache_folder() / "tasks" / hashlib.sha256(listed.encode()).hexdigest()[:16]
    for name, each in files.items():
        write_local_task(known[name], each, local, cache_folder() / "datasets")
    return local


def _files(folder: Path, task: str) -> dict[str, Path]:
    lone = folder / f"{task}.jsonl"
    found = {split: path for split in SPLITS if (path := folder / task / f"{split}.jsonl").is_file()}
    if lone.is_file() and not found:
        return {"test": lone}
    if not found:
        raise EndpointError(f"{folder} holds neither {task}.jsonl nor {task}/test.jsonl: see docs/collect.md")
    return found


def _embedded_files(world_seed: int) -> Path:
    """The questions of the embedded world as files: written once, under a name that follows their content."""
    from recal_bench.simulation import embedded_questions

    lines: dict[tuple[str, str], list[str]] = {}
    for each in embedded_questions(world_seed):
        entry = {"id": each.query_id, "question": each.prompt, "golden_answers": list(each.gold)}
        lines.setdefault((each.task, each.split), []).append(json.dumps(entry) + "\n")
    texts = {place: "".join(entries) for place, entries in sorted(lines.items())}
    digest = hashlib.sha256("".join(texts.values()).encode()).hexdigest()[:16]
    folder = cache_folder() / "questions" / f"embedded-{world_seed}-{digest}"
    for (task, split), text in texts.items():
        path = folder / task / f"{split}.jsonl"
        if not path.is_file() or path.stat().st_size != len(text.encode()):
            with written_whole(path) as draft:
                draft.write_text(text, encoding="utf-8")
    return folder
