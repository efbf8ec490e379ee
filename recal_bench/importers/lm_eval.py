"""lm-eval-harness: what `lm_eval --log_samples --output_path` wrote, of several models, to rows."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.importers.files import SourceRow, json_lines
from recal_bench.importers.lm_eval_logs import Choice, Samples, check_wanted, choose, filter_of, newest
from recal_bench.importers.options import Format, Options
from recal_bench.importers.rows import Row
from recal_bench.importers.values import gold, prose, score, text
from recal_bench.wording import counted, show

_NEEDED = ("doc_id", "arguments")
_HINT = "; or choose another --metric"


def find(sources: Sequence[Path], notes: list[str]) -> list[Path]:
    return [samples.path for samples in newest(sources, notes)]


def read(paths: Sequence[Path], options: Options, notes: list[str]) -> Iterator[Row]:
    tasks: defaultdict[str, list[Samples]] = defaultdict(list)
    for samples in newest(paths, []):
        tasks[samples.task].append(samples)
    choices = {task: choose(files, options.filter, options.metric) for task, files in tasks.items()}
    check_wanted("--filter", options.filter, list(choices.values()), notes)
    check_wanted("--metric", options.metric, list(choices.values()), notes)
    scored_by: defaultdict[str, list[str]] = defaultdict(list)
    for task, choice in choices.items():
        scored_by[choice.metric].append(task)
    notes.append("score: " + "; ".join(f"{metric} for {', '.join(names)}" for metric, names in scored_by.items()))
    for task, files in tasks.items():
        yield from _Task(choices[task]).rows(files, notes)


class _Task:
    """Reads a task's files one after the other, and holds its prompts: each query has one, whatever the model."""

    def __init__(self, choice: Choice) -> None:
        self.choice = choice
        self.known: dict[str, tuple[str, Any, Path]] = {}
        self.n_unscored = 0
        self.n_other_prompts = 0

    def rows(self, files: Sequence[Samples], notes: list[str]) -> Iterator[Row]:
        for samples in files:
            yield from self._file(samples)
        task = files[0].task
        if self.n_other_prompts:
            notes.append(
                f"{task}: {counted(self.n_other_prompts, 'prompt')} differ between the models (chat templates, "
                f"few-shot examples): each query has the prompt of the first model, {show(files[0].model)}"
            )
        if self.n_unscored:
            notes.append(f"{task}: {counted(self.n_unscored, 'sample')} without {self.choice.metric}: missing outcomes")

    def _file(self, samples: Samples) -> Iterator[Row]:
        for where, record in json_lines(samples.path):
            if filter_of(record) != self.choice.filter:
                continue
            absent = [name for name in _NEEDED if name not in record]
            if absent:
                raise OutcomesError(f"{where} lacks {', '.join(absent)}: is it a samples file of lm-eval?")
            found = score(record.get(self.choice.metric), where, self.choice.metric, _HINT)
            if found is None:
                self.n_unscored += 1
                continue
            query_id = text(record["doc_id"], where, "doc_id")
            own = _prompt(record["arguments"])
            prompt, doc_hash, first = self.known.setdefault(query_id, (own, record.get("doc_hash"), samples.path))
            if doc_hash and record.get("doc_hash") and doc_hash != record["doc_hash"]:
                raise OutcomesError(
                    f"{where} holds another document as doc_id {query_id} than {first}: the models ran different "
                    "versions of the task; run them on the same one, or import them apart"
                )
            self.n_other_prompts += prompt != own
            yield Row(
                where=where,
                task=samples.task,
                query_id=query_id,
                prompt=text(prompt, where, "the prompt in arguments"),
                model=text(samples.model, where, "the model's name"),
                score=found,
                gold=gold(record.get("target")),
                response=_response(record),
            )


def _prompt(arguments: Any) -> str:
    """What the requests of a sample ask: their contexts, each once; where these are blank, their continuations."""
    requests = list(arguments.values()) if isinstance(arguments, dict) else arguments
    requests = requests if isinstance(requests, list) else []
    parts = [list(each.values()) if isinstance(each, dict) else each for each in requests]
    for position in (0, 1):
        asked = [_text(part[position]) for part in parts if isinstance(part, list) and len(part) > position]
        prompt = "\n".join(dict.fromkeys(filter(str.strip, asked)))
        if prompt:
            return prompt
    return ""


def _text(context: Any) -> str:
    """A context as text; of a chat's messages, their contents."""
    if isinstance(context, list) and len(context) == 1:
        context = context[0]
    if isinstance(context, str) and context.startswith("[{"):
        try:
            messages = json.loads(context)
            return "\n\n".join(message["content"] for message in messages)
        except (ValueError, TypeError, KeyError, RecursionError):
            return context
    return context if isinstance(context, str) else ""


def _response(record: SourceRow) -> str | None:
    """The text that the model wrote; a task of choices has none."""
    found = record.get("resps")
    while isinstance(found, list) and found:
        found = found[0]
        if isinstance(found, list) and len(found) == 2 and found[1] in ("True", "False"):
            return None
    return prose(found)


LM_EVAL = Format("output folders of lm_eval --log_samples", ("metric", "filter"), find, read)
