"""lm-eval's own backends (`hf`, `vllm`): models that run here, whose tokens are counted as they are generated."""

from __future__ import annotations

import gc
import json
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from itertools import groupby, islice
from typing import Any, NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.collection.asking import Progress
from recal_bench.collection.journal import Journal
from recal_bench.collection.requests import Request
from recal_bench.errors import EndpointError, RecalBenchError
from recal_bench.pools.pool import Model
from recal_bench.pools.sampling import LIMITS

BACKENDS = ("hf", "vllm")
PREFIX = "lm-eval:"
_BLOCK = 256


class Generated(NamedTuple):
    """What one reply took. `tokens` has its end token in it, and what lm-eval cuts off: thoughts, stop words.

    `latency_s` is its share of its batch's time.
    """

    tokens: int
    finish_reason: str
    latency_s: float


def load_backend(backend: str, name: str, model: Model) -> Any:
    """lm-eval's language model for a model of the pool: `served_model` is its name or folder.

    Raises EndpointError where it cannot be loaded.
    """
    from lm_eval.api.registry import get_model

    try:
        kind = get_model(backend)
    except ImportError as error:
        raise EndpointError(
            f"--backend {PREFIX}{backend} needs {error.name or backend}: "
            f"pip install '.[{backend}]' in a checkout of recal-bench"
        ) from error
    arguments: dict[str, Any] = {"pretrained": model.served_model}
    if backend == "hf":
        import torch

        # lm-eval's own default is cuda, whether there is one or not.
        arguments["device"] = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return kind(**arguments | model.lm_eval_args)
    except Exception as error:  # Loading touches disks, hubs, devices and parsers.
        raise EndpointError(
            f"model {name} ({model.served_model}) cannot be loaded by {backend}: {_reason(error)}"
        ) from error


class _Asked(NamedTuple):
    """A request as the model sees it: `prompt_tokens` are those of `context`."""

    request: Request
    context: str
    prompt_tokens: int


class BackendAsker:
    """Asks a model that runs here, block by block, and keeps each answer in the journal as soon as it is there.

    The model is loaded when there is something to ask, and released afterwards: the next one may need its memory.
    """

    def __init__(self, backend: str, name: str, model: Model, journal: Journal, progress: Progress) -> None:
        self._backend, self._name, self._model = backend, name, model
        self._journal, self._progress = journal, progress
        self._lm: Any = None

    def ask(self, requests: Iterator[Request], tell: Callable[[], None]) -> None:
        """Ask what the journal does not hold. What another collector has claimed is left to that one.

        Raises EndpointError where the model cannot be loaded, or fails.
        """
        try:
            while block := list(islice(requests, _BLOCK)):
                self._ask_block(block, tell)
                tell()
        finally:
            self._release()

    def _ask_block(self, block: list[Request], tell: Callable[[], None]) -> None:
        answered = self._journal.answered([request.key for request in block], estimates=True)
        claimed = [each for each in block if each.key not in answered and self._journal.claim(each.key, 0.0, True)]
        self._progress.found += len(answered)
        for request in block:
            self._progress.left[self._model.endpoint, request.model, request.strategy] -= 1
        left = {request.key for request in claimed}

        def keep(answer: Answer) -> None:
            self._journal.keep(answer)
            left.remove(answer.key)
            self._progress.asked += 1
            self._progress.asked_of[self._model.endpoint] += 1
            tell()

        try:
            with self._explained():
                asked = [self._prepared(request) for request in claimed]
                for each in asked:
                    if reason := self._too_long(each):
                        self._journal.refuse(each.request.key, each.request.model, reason)
                        self._progress.refused += 1
                        left.remove(each.request.key)
                # By parameters: within one no two contexts are the same, and so a context names its request.
                asked = sorted((each for each in asked if each.request.key in left), key=_parameters)
                for _, group in groupby(asked, key=_parameters):
                    self._generate(list(group), keep)
            if left:
                raise EndpointError(f"this version of lm-eval does not tell what {self._backend} generates")
        finally:
            for key in left:
                self._journal.release(key)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except RecalBenchError:
            raise
        except Exception as error:  # Devices, memory, chat templates, and settings that a backend does not know.
            raise EndpointError(
                f"model {self._name} ({self._model.served_model}) fails in {self._backend}: {_reason(error)}; what was "
                "answered is kept, and the same command goes on from there"
            ) from error

    def _prepared(self, request: Request) -> _Asked:
        """A request with the message in the model's chat template, where it has one."""
        lm, context = self._loaded(), request.message
        if getattr(getattr(lm, "tokenizer", None), "chat_template", None):
            context = str(lm.apply_chat_template([{"role": "user", "content": request.message}]))
        return _Asked(request, context, len(lm.tok_encode(context)))

    def _too_long(self, asked: _Asked) -> str | None:
        """Why a request cannot be asked: lm-eval would cut off the beginning of its prompt. None where it can."""
        longest = int(self._loaded().max_length)
        if asked.prompt_tokens + _limit(asked) <= longest:
            return None
        return (
            f"{asked.prompt_tokens} tokens of prompt and up to {_limit(asked)} of reply are more than the model's "
            f"{longest}"
        )

    def _generate(self, asked: list[_Asked], keep: Callable[[Answer], None]) -> None:
        from lm_eval.api.instance import Instance

        lm, of_context = self._loaded(), {each.context: each for each in asked}
        settings = _settings(self._backend, asked[0].request)
        instances = [Instance("generate_until", {}, (each.context, settings), row) for row, each in enumerate(asked)]
        asked_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
        watch = _Watch(lm, lambda context, text, told: keep(self._answer(of_context[context], text, told, asked_at)))
        try:
            with _seeded(asked[0].request):
                lm.generate_until(instances, disable_tqdm=True)
        finally:
            watch.end()

    def _answer(self, asked: _Asked, text: str, told: Generated, asked_at: str) -> Answer:
        request = asked.request
        body = {
            "model": self._model.served_model,
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": told.finish_reason}],
            "usage": {"prompt_tokens": asked.prompt_tokens, "completion_tokens": told.tokens},
        }
        return Answer(
            request.key, request.model, request.strategy, json.dumps(body, ensure_ascii=False), asked.prompt_tokens,
            told.tokens, None, None, "counted", len(request.message), len(text), told.finish_reason, told.latency_s,
            asked_at,
        )  # fmt: skip

    def _loaded(self) -> Any:
        if self._lm is None:
            self._lm = load_backend(self._backend, self._name, self._model)
        return self._lm

    def _release(self) -> None:
        import torch

        engine = getattr(getattr(self._lm, "model", None), "llm_engine", None)
        if engine is not None:
            engine.engine_core.shutdown()  # It lives in processes of its own, which would last as long as this one.
        self._lm = None
        gc.collect()
        torch.cuda.empty_cache()


class _Watch:
    """Sees what a backend generates: its texts, by lm-eval's cache hook, and the tokens of each, which lm-eval drops.

    Both come batch by batch in the same order.
    """

    def __init__(self, lm: Any, tell: Callable[[str, str, Generated], None]) -> None:
        self._lm, self._tell = lm, tell
        self._hook, self._model_generate = lm.cache_hook, lm._model_generate
        self._batch: deque[Generated] = deque()
        lm.set_cache_hook(self)
        lm._model_generate = self._generate

    def end(self) -> None:
        self._lm.set_cache_hook(self._hook)
        self._lm._model_generate = self._model_generate

    def add_partial(self, kind: str, asked: tuple[str, Any], text: str) -> None:
        """lm-eval's call for each text."""
        self._tell(asked[0], text, self._batch.popleft())

    def _generate(self, *args: Any, **options: Any) -> Any:
        start = time.monotonic()
        batch = self._model_generate(*args, **options)
        latency_s = (time.monotonic() - start) / len(batch)
        told = map(_of_vllm, batch) if isinstance(batch, list) else self._of_rows(batch.tolist(), options)
        self._batch.extend(Generated(*each, latency_s) for each in told)
        return batch

    def _of_rows(self, rows: list[list[int]], options: dict[str, Any]) -> Iterator[tuple[int, str]]:
        """Tokens and finish reason of each row of transformers: the prompt, the reply, and what comes after its end.

        That is padding, or whatever is generated until the last of the batch ends.
        """
        first = options["context"].shape[1] if self._lm.backend == "causal" else 1
        ends = getattr(self._lm.model.generation_config, "eos_token_id", None)
        ends = {self._lm.eot_token_id, *(ends if isinstance(ends, list) else [ends])}

        def ended(tokens: list[int]) -> bool:
            text = self._lm.tok_decode(tokens, skip_special_tokens=False)
            return not ends.isdisjoint(tokens) or any(stop and stop in text for stop in options["stop"])

        for row in rows:
            tokens = row[first:]
            length = _shortest(tokens, ended)
            yield (len(tokens), "length") if length is None else (length, "stop")


def _shortest(tokens: list[int], ended: Callable[[list[int]], bool]) -> int | None:
    """Length of the shortest beginning that has ended; None where not even the whole has."""
    shorter = bisect_left(range(1, len(tokens) + 1), True, key=lambda length: ended(tokens[:length]))
    return shorter + 1 if shorter < len(tokens) else None


def _of_vllm(output: Any) -> tuple[int, str]:
    return len(output.outputs[0].token_ids), str(output.outputs[0].finish_reason)


def _settings(backend: str, request: Request) -> dict[str, Any]:
    """lm-eval's words for an arm's sampling. What it does not know goes to the backend unchanged."""
    sampling = {key: value for key, value in request.extra.items() if key not in LIMITS}
    sampling.setdefault("do_sample", bool(sampling.get("temperature")))
    if backend == "hf":
        sampling.pop("seed", None)
    else:
        sampling.setdefault("skip_special_tokens", True)
    return {"until": sampling.pop("stop", []), "max_gen_toks": request.most_completion, **sampling}


@contextmanager
def _seeded(first: Request) -> Iterator[None]:
    """Seeds torch's generators, which transformers draws from: by the sampling's `seed` and what is asked."""
    import torch

    with torch.random.fork_rng():
        torch.manual_seed(int(first.extra.get("seed", 0)) + int.from_bytes(first.key[:6], "little"))
        yield


def _parameters(asked: _Asked) -> tuple[int, str]:
    return asked.request.most_completion, json.dumps(asked.request.extra, sort_keys=True)


def _limit(asked: _Asked) -> int:
    return asked.request.most_completion


def _reason(error: Exception) -> str:
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
