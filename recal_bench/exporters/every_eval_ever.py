"""Every Eval Ever's records (evaleval, schema 0.3.0): one JSON file for each arm or run, and its samples as JSONL.

Field names and file names are those of the schemas and of the validator that come with the package every-eval-ever
0.3.0: `data/COLLECTION/DEVELOPER/MODEL/UUID.json`, and `UUID_samples.jsonl` beside it.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

import numpy as np

from recal_bench import __version__
from recal_bench.errors import SettingsError
from recal_bench.exporters.sources import Exported, LoggedFile, Publisher, runs_of
from recal_bench.folders import slug
from recal_bench.importers.rows import Row
from recal_bench.outcomes import Arm
from recal_bench.reporting.figures.entries import decisions_of
from recal_bench.wording import counted, some_of

SCHEMA_VERSION = "0.3.0"
_UNKNOWN = {"deployment_type": "unknown", "model_availability": "unknown"}
_SCORE: dict[str, Any] = {
    "metric_id": "recal_bench.score",
    "metric_name": "score",
    "metric_unit": "proportion",
    "lower_is_better": False,
    "score_type": "continuous",
    "min_score": 0.0,
    "max_score": 1.0,
}
_COST: dict[str, Any] = {
    "metric_id": "recal_bench.cost_usd",
    "metric_name": "cost of a query",
    "metric_unit": "USD",
    "lower_is_better": True,
    "score_type": "continuous",
    "min_score": 0.0,
    "max_score": "Infinity",
}
Values = dict[tuple[str, str], dict[str, list[tuple[float, float | None]]]]
"""By task and split, and then by query: score and cost of each draw."""


class _Record:
    """One record in the making: its names, and its samples as they come."""

    def __init__(
        self, folder: Path, collection: str, model_id: str, variant: str, seed: str, now: float, splits: set[str]
    ) -> None:
        self.model_id, self._several = model_id, len(splits) > 1
        developer, _, model = model_id.rpartition("/")
        self.evaluation_id = f"{collection}-{slug(variant)}/{model_id}/{now:.6f}"
        self.uuid = str(uuid.UUID(bytes=hashlib.sha256(seed.encode()).digest()[:16], version=4))
        place = Path("data") / _part(collection) / _part(developer or "unknown") / _part(model)
        self.folder = folder / place
        self.folder.mkdir(parents=True, exist_ok=True)
        self.samples_name = (place / f"{self.uuid}_samples.jsonl").as_posix()
        self.values: Values = defaultdict(lambda: defaultdict(list))
        self.n_samples = 0

    def name(self, task: str, split: str) -> str:
        return f"{task} ({split})" if self._several else task

    def result_id(self, task: str, split: str, what: str = "score") -> str:
        return f"{self.evaluation_id}#{task}#{split}#{what}"

    def add(self, row: Row) -> None:
        self.values[row.task, row.split or ""][row.query_id].append((row.score, row.cost_usd))

    def sample(self, row: Row, file: IO[str]) -> None:
        file.write(json.dumps(_sample(row, self), ensure_ascii=False) + "\n")
        self.n_samples += 1

    def results(self, dataset: str, details: Mapping[str, str], generation: Mapping[str, str]) -> list[dict[str, Any]]:
        """Score, and cost where all of it is known, of each task and split. The mean of queries, draws averaged."""
        found = []
        for (task, split), of_query in sorted(self.values.items()):
            place = {"task": task} | ({"split": split} if split else {})
            score_Q = np.array([np.mean([score for score, _ in draws]) for draws in of_query.values()])
            costs = [cost for draws in of_query.values() for _, cost in draws]
            known = [cost for cost in costs if cost is not None]
            measured = [("score", _SCORE, score_Q, {"cost_known": f"{len(known)} of {len(costs)} outcomes"})]
            if known and len(known) == len(costs):
                cost_Q = np.array([np.mean([cost for _, cost in draws]) for draws in of_query.values()])
                measured.append(("cost", _COST, cost_Q, {}))
            for what, metric, value_Q, told in measured:
                if np.isfinite(value_Q).all():
                    found.append(
                        {
                            "evaluation_result_id": self.result_id(task, split, what),
                            "evaluation_name": self.name(task, split),
                            "source_data": {
                                "dataset_name": dataset,
                                "source_type": "other",
                                "additional_details": {**place, **details},
                            },
                            "metric_config": metric,
                            "score_details": _details(value_Q, told),
                            **({"generation_config": {"additional_details": dict(generation)}} if generation else {}),
                        }
                    )
        return found


def _details(value_Q: np.ndarray[Any, Any], told: Mapping[str, str]) -> dict[str, Any]:
    deviation = float(np.std(value_Q, ddof=1)) if len(value_Q) > 1 else math.nan
    uncertainty: dict[str, Any] = {"num_samples": len(value_Q)}
    if math.isfinite(deviation):
        error = {"value": deviation / math.sqrt(len(value_Q)), "method": "analytic, over queries"}
        uncertainty |= {"standard_deviation": deviation, "standard_error": error}
    details = {"details": dict(told)} if told else {}
    return {"score": float(np.mean(value_Q)), "uncertainty": uncertainty, **details}


def records_of_file(file: LoggedFile, out: Path, publisher: Publisher) -> Exported:
    """A record for each arm of an outcomes file. With `publisher.queries`, every outcome as a sample."""
    source = _source(file.name, publisher, file.origin())
    collection, now = slug(file.name) or "outcomes", time.time()
    records: dict[Arm, _Record] = {}
    splits = set(file.outcomes.split_Q)
    with ExitStack() as stack:
        files: dict[Arm, IO[str]] = {}
        for row in file.rows():
            arm = Arm(row.model, row.strategy or "")
            if arm not in records:
                seed = f"{file.sha256}|{arm}|{SCHEMA_VERSION}"
                records[arm] = _Record(out, collection, row.model, arm.strategy, seed, now, splits)
                if publisher.queries:
                    path = out / records[arm].samples_name
                    files[arm] = stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))
            records[arm].add(row)
            if publisher.queries:
                records[arm].sample(row, files[arm])
    for arm, record in records.items():
        results = record.results(file.name, file.origin(), {"strategy": arm.strategy})
        model = {"name": arm.model, "id": arm.model, "additional_details": {**_UNKNOWN}}
        _write(record, source, model, results, now, out)
    flat = sorted({arm.model for arm in records if "/" not in arm.model})
    notes = [_relationship(publisher)] if publisher.relationship == "other" else []
    if flat:
        notes.append(
            f"{some_of(flat, 3)}: no OWNER/NAME, so filed under unknown; the datastore wants the names of Hugging Face"
        )
    n_samples = sum(each.n_samples for each in records.values())
    if n_samples:
        notes.append("the samples hold prompts and replies: --no-queries leaves them out")
    summary = f"{counted(len(records), 'record')}, one for each arm, with {counted(n_samples, 'sample')}"
    return Exported((summary,), tuple(notes))


def records_of_runs(folder: Path, out: Path, publisher: Publisher) -> Exported:
    """A record for each run of a router that stands in tables: no samples, since runs do not hold the prompts."""
    runs, notes = runs_of(folder)
    now, n_results = time.time(), 0
    for run in runs:
        configuration, data = run.record.configuration, run.record.configuration.data
        variant = f"{configuration.settings_hash}-seed{configuration.seed}"
        model_id = f"recal-bench/{configuration.router}"
        frame = decisions_of(run)
        seed, splits = f"{configuration.key}|{data.hash}", set(frame["split"])
        record = _Record(out, slug(data.name) or "outcomes", model_id, variant, seed, now, splits)
        for task, split, query, score, cost, own in zip(
            *(frame[name] for name in ("task", "split", "query_id", "score", "cost_usd", "router_cost_usd")),
            strict=True,
        ):
            total = cost + own
            record.values[task, split][query].append((score, None if math.isnan(total) else total))
        details = {"outcomes_hash": data.hash, "simulated": str(data.simulated).lower()}
        generation = {
            "settings": json.dumps(configuration.settings, sort_keys=True),
            "seed": str(configuration.seed),
            "alpha": f"{data.alpha:g}",
            "arms": json.dumps(data.arms),
            "command": run.record.command,
        }
        results = record.results(data.name, details, generation)
        n_results += len(results)
        model = {
            "name": configuration.router,
            "id": model_id,
            "additional_details": {**_UNKNOWN, "kind": "a router over the models of the outcomes, not a model"},
        }
        source = _source(data.name, publisher, details)
        _write(record, source, model, results, now, out, run.record.started)
    if publisher.relationship == "other":
        notes.append(_relationship(publisher))
    return Exported(
        (f"{counted(len(runs), 'record')}, one for each run, with {counted(n_results, 'result')}",), tuple(notes)
    )


def _relationship(publisher: Publisher) -> str:
    return "the evaluator's relationship to the models is given as other: --relationship says another"


def _source(name: str, publisher: Publisher, details: Mapping[str, str]) -> dict[str, Any]:
    if not (publisher.organization or "").strip():
        raise SettingsError("every-eval-ever names who provides the results: give --organization NAME")
    simulated = " (simulated)" if details.get("simulated") == "true" else ""
    return {
        "source_name": f"{name}{simulated}",
        "source_type": "evaluation_run",
        "source_organization_name": publisher.organization,
        "evaluator_relationship": publisher.relationship,
        "additional_details": dict(details),
    }


def _write(
    record: _Record,
    source: Mapping[str, Any],
    model: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    now: float,
    out: Path,
    evaluated: str | None = None,
) -> None:
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": record.evaluation_id,
        **({"evaluation_timestamp": evaluated} if evaluated else {}),
        "retrieved_timestamp": f"{now:.6f}",
        "source_metadata": source,
        "eval_library": {"name": "recal-bench", "version": __version__},
        "model_info": model,
        "evaluation_results": results,
    }
    if record.n_samples:
        content["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": record.samples_name,
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256((out / record.samples_name).read_bytes()).hexdigest(),
            "total_rows": record.n_samples,
        }
    text = json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    (record.folder / f"{record.uuid}.json").write_text(text, encoding="utf-8", newline="\n")


def _sample(row: Row, record: _Record) -> dict[str, Any]:
    reference = json.loads(row.gold) if row.gold else []
    told = {"split": row.split, "cost_usd": None if row.cost_usd is None else repr(row.cost_usd)}
    tokens = None
    if row.prompt_tokens is not None and row.completion_tokens is not None:
        tokens = {
            "input_tokens": row.prompt_tokens,
            "output_tokens": row.completion_tokens,
            "total_tokens": row.prompt_tokens + row.completion_tokens,
            "reasoning_tokens": row.reasoning_tokens,
        }
    return {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": record.evaluation_id,
        "model_id": record.model_id,
        "evaluation_name": record.name(row.task, row.split or ""),
        "evaluation_result_id": record.result_id(row.task, row.split or ""),
        "sample_id": row.query_id if not row.sample else f"{row.query_id}#{row.sample}",
        "sample_hash": hashlib.sha256((row.prompt + "".join(reference)).encode()).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": row.prompt, "reference": reference},
        "output": {"raw": [] if row.response is None else [row.response]},
        "answer_attribution": [],
        "evaluation": {"score": row.score, "is_correct": row.score == 1.0},
        "token_usage": tokens,
        "performance": None if row.latency_s is None else {"latency_ms": 1000 * row.latency_s},
        "metadata": {name: value for name, value in told.items() if value is not None},
    }


def _part(name: str) -> str:
    """A part of a path that every file system takes, and the datastore: it keeps the name `data` for itself."""
    return {"": "unnamed", "data": "data-"}.get(slug(name), slug(name))
