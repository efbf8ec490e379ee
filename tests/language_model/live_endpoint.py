"""An endpoint that answers as the arms of `preset_training.small_split`, with a pool file and the tasks' questions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import preset_training as preset
import yaml
from collection.own_endpoint import Asked, own_endpoint, reply

GOLD = {"river": "the river", "theorem": "a proof", "song": "a song"}
"""By the word with which a question begins."""
RIGHT = {("large", True): "the river", ("large", False): "a proof", ("small", False): "a song"}
"""The one answer that each arm knows, by its model and whether it is to think."""
PRICE = {"large": (3.0, 6.0), "small": (1.0, 2.0)}
"""USD per 1M tokens, of prompt and completion."""


class LiveArms(NamedTuple):
    """A folder with `pool.yaml`, and what its endpoint was asked, in order."""

    folder: Path
    requests: list[Asked]

    @property
    def pool(self) -> Path:
        return self.folder / "pool.yaml"

    def asked(self) -> list[str]:
        """The bodies of all requests."""
        return [json.dumps(each.body, sort_keys=True) for each in self.requests]

    def usd(self) -> float:
        """What the endpoint has answered, at the prices of the pool file: tokens are words."""
        said = [(PRICE[each.model], reply(each, **_said(each))["usage"]) for each in self.requests]
        return sum(
            (usd_in * usage["prompt_tokens"] + usd_out * usage["completion_tokens"]) / 1e6
            for (usd_in, usd_out), usage in said
        )


@contextmanager
def live_arms(folder: Path) -> Iterator[LiveArms]:
    """The arms of `small_split` behind an endpoint; tasks and prompts are those of `preset_training.fitted`."""
    with own_endpoint(lambda asked: (200, reply(asked, **_said(asked)))) as (url, requests):
        write_pool(folder, url)
        yield LiveArms(folder, requests)


def write_pool(folder: Path, url: str) -> None:
    models = {
        name: {
            "endpoint": "e", "served_model": name, "context_length": 8192, "tokenizer": "words",
            "price": {"date": "2026-11-01", "input": usd[0], "output": usd[1]},
        }
        for name, usd in PRICE.items()
    }  # fmt: skip
    endpoints = {"e": {"base_url": url, "api_key_env": None, "timeout_s": 20}}
    pool = {"pool": "p", "questions": str(folder), "endpoints": endpoints, "models": models}
    (folder / "pool.yaml").write_text(yaml.safe_dump(pool, sort_keys=False), encoding="utf-8")
    lines: dict[str, list[str]] = {task: [] for task in preset.LIVE_TASKS}
    for split in (preset.small_split(24, tasks=preset.LIVE_TASKS), preset.small_split(9, 1, tasks=preset.LIVE_TASKS)):
        for task, number, prompt in zip(
            split.outcomes.task_Q, split.outcomes.query_id_Q, split.queries.prompt, strict=True
        ):
            entry = {"id": number, "question": prompt, "golden_answers": [GOLD[prompt.split()[0]]]}
            lines[task].append(json.dumps(entry) + "\n")
    for task, entries in lines.items():
        (folder / f"{task}.jsonl").write_text("".join(entries), encoding="utf-8")


def _said(asked: Asked) -> dict[str, Any]:
    text = f"So I think.\nAnswer: {RIGHT[asked.model, 'step by step' in asked.message]}"
    prompt, completion = len(asked.message.split()), len(text.split())
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return {"message": {"content": text}, "usage": usage}
