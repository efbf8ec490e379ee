"""What is asked: one request for each document and arm, named by its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from recal_bench.pools.pool import Pool


class Request(NamedTuple):
    """`key` hashes what decides the answer: model, text and parameters, but neither address nor price.

    `extra` are the parameters beside model and messages, `most_completion` the most tokens a reply may have.
    """

    key: bytes
    model: str
    strategy: str
    message: str
    extra: dict[str, Any]
    most_completion: int


class Arms:
    """The arms of a collection: models and strategies of a pool, and the backend that answers for them.

    A model whose entry names strategies is asked by those of them that are chosen.
    """

    def __init__(self, pool: Pool, models: Iterable[str], strategies: Iterable[str], backend: str) -> None:
        self.pool = pool
        self.models = tuple(models)
        self.strategies = tuple(strategies)
        self.backend = backend
        self._shared = {
            (model, strategy): self._shared_by_requests(model, strategy)
            for model in self.models
            for strategy in self.strategies
            if strategy in (pool.models[model].strategies or self.strategies)
        }

    def __len__(self) -> int:
        return len(self._shared)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        """Model and strategy of every arm."""
        return iter(self._shared)

    def request(self, model: str, strategy: str, prompt: str) -> Request:
        """The request that puts a prompt to an arm."""
        message = self.pool.strategies[strategy].message(prompt)
        beginning, extra, most = self._shared[model, strategy]
        key = hashlib.sha256(beginning + message.encode("utf-8", "surrogatepass")).digest()
        return Request(key, model, strategy, message, extra, most)

    def _shared_by_requests(self, model: str, strategy: str) -> tuple[bytes, dict[str, Any], int]:
        entry, asked_by = self.pool.models[model], self.pool.strategies[strategy]
        _, most = entry.limit(asked_by)
        extra = entry.parameters(asked_by)
        parts = [self.backend, model, entry.served_model, extra]
        return json.dumps(parts, sort_keys=True).encode() + b"\0", extra, most
