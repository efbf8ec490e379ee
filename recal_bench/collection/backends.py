"""lm-eval's own backends (`hf`, `vllm`): models that run here, whose tokens their own tokenizer counts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice
from typing import Any

from recal_bench.collection.asking import Progress
from recal_bench.collection.journal import Answer, Journal
from recal_bench.collection.requests import Request
from recal_bench.errors import RecalBenchError
from recal_bench.pool import Model

BACKENDS = ("hf", "vllm")
PREFIX = "lm-eval:"
_BLOCK = 256


def load_backend(backend: str, name: str, model: Model) -> Any:
    """lm-eval's language model for a model of the pool: `served_model` is its name or folder.

    Raises RecalBenchError where it cannot be loaded.
    """
    from lm_eval.api.registry import get_model

    try:
        return get_model(backend)(pretrained=model.served_model, **model.lm_eval_args)
    except ImportError as error:
        raise RecalBenchError(
            f"--backend {PREFIX}{backend} needs {error.name or backend}: pip install 'recal-bench[{backend}]'"
        ) from error
    except Exception as error:  # Loading touches disks, hubs, devices and parsers.
        reason = " ".join(str(error).split())[:200]
        raise RecalBenchError(f"model {name} ({model.served_model}) cannot be loaded by {backend}: {reason}") from error


class BackendAsker:
    """Asks a loaded model, block by block, and keeps what it says in the journal."""

    def __init__(self, backend: str, name: str, model: Model, journal: Journal, progress: Progress) -> None:
        self._lm = load_backend(backend, name, model)
        self._model, self._journal, self._progress = model, journal, progress

    def ask(self, requests: Iterator[Request], tell: Callable[[], None]) -> None:
        """Ask what the journal does not hold. What another collector has claimed is left to that one."""
        while block := list(islice(requests, _BLOCK)):
            answered = self._journal.answered([request.key for request in block], estimates=True)
            claimed = [each for each in block if each.key not in answered and self._journal.claim(each.key, 0.0, True)]
            for answer in self._generate(claimed) if claimed else ():
                self._journal.keep(answer)
            for request in block:
                self._progress.left[self._model.endpoint, request.model, request.strategy] -= 1
            self._progress.found += len(answered)
            self._progress.asked += len(claimed)
            self._progress.asked_of[self._model.endpoint] += len(claimed)
            tell()

    def _generate(self, requests: list[Request]) -> Iterator[Answer]:
        from lm_eval.api.instance import Instance

        sampling = {key: value for key, value in self._model.sampling.items() if not key.endswith("_tokens")}
        sampling.setdefault("do_sample", bool(sampling.get("temperature")))
        asked_at, start = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        contexts = [self._context(request.message) for request in requests]
        instances = [
            Instance(
                "generate_until", {}, (context, {"until": [], "max_gen_toks": each.most_completion, **sampling}), 0
            )
            for context, each in zip(contexts, requests, strict=True)
        ]
        texts: list[str] = self._lm.generate_until(instances, disable_tqdm=True)
        latency_s = (time.monotonic() - start) / len(requests)
        for request, context, text in zip(requests, contexts, texts, strict=True):
            yield self._answer(request, context, text, asked_at, latency_s)

    def _context(self, message: str) -> str:
        """The message in the model's chat template, where it has one."""
        if getattr(getattr(self._lm, "tokenizer", None), "chat_template", None):
            return str(self._lm.apply_chat_template([{"role": "user", "content": message}]))
        return message

    def _answer(self, request: Request, context: str, text: str, asked_at: str, latency_s: float) -> Answer:
        prompt, completion = len(self._lm.tok_encode(context)), len(self._lm.tok_encode(text))
        finish_reason = "length" if completion >= request.most_completion else "stop"
        body = {
            "model": self._model.served_model,
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
            "usage": {"prompt_tokens": prompt, "completion_tokens": completion},
        }
        return Answer(
            request.key, request.model, request.strategy, json.dumps(body, ensure_ascii=False), prompt, completion,
            None, None, "counted", len(request.message), len(text), finish_reason, latency_s, asked_at,
        )  # fmt: skip
