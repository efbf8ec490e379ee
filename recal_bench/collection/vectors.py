"""Vectors of texts from an endpoint's embeddings, at the pool file's price; kept at half precision in the journal."""

from __future__ import annotations

import base64
import json
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from recal_bench.collection.answer import Answer
from recal_bench.collection.connection import Connection
from recal_bench.collection.consulting import Consulted
from recal_bench.collection.endpoint import Line
from recal_bench.collection.requests import Request
from recal_bench.collection.tokens import read_tokens
from recal_bench.outcomes import Arm
from recal_bench.pools.sampling import LIMITS, sent

_VECTOR = "vector"


class EmbeddingLine(Line):
    """Asks for embeddings, one text a request: so a text's tokens, and its cost, are what the endpoint reports."""

    path: ClassVar[str] = "embeddings"

    def asked(self, request: Request) -> dict[str, Any]:
        return {"input": request.message, "encoding_format": "float"}

    def read(self, connection: Connection, content: bytes, arm: Arm) -> dict[str, Any]:
        """Model, usage and vector. The vector is scaled to unit length, and kept at half precision."""
        reply = connection.read_object(content, arm)
        vector_E = _vector_in(reply)
        if vector_E is None:
            raise connection.malformed("the reply holds no embedding, a list of finite numbers that are not all 0")
        kept = base64.b64encode((vector_E / np.linalg.norm(vector_E)).astype("<f2").tobytes()).decode()
        return {"model": reply.get("model"), "usage": _usage(reply.get("usage")), _VECTOR: kept}


class Embedder(Consulted):
    """An embedding model of a pool file. Its `sampling` is sent, but for what is about generating text."""

    purpose: ClassVar[str] = "vector"
    line: ClassVar[type[Line]] = EmbeddingLine
    takes_all: ClassVar[bool] = True

    def parameters(self) -> tuple[dict[str, Any], int]:
        # The temperature is there by default.
        kept = {
            name: value for name, value in sent(self.model.sampling).items() if name not in (*LIMITS, "temperature")
        }
        return kept, 0

    def journal_named(self) -> str:
        """One for each model, whose vectors alone count for a limit."""
        return json.dumps([super().journal_named(), self.name, self.model.served_model])


def vector_of(answer: Answer) -> NDArray[np.float16]:
    """The vector of an answer, `[E]`, of about unit length."""
    return np.frombuffer(base64.b64decode(answer.reply[_VECTOR]), dtype="<f2")


def _vector_in(reply: dict[str, Any]) -> NDArray[np.float64] | None:
    data = reply.get("data")
    first = data[0] if isinstance(data, list) and len(data) == 1 else None
    numbers = first.get("embedding") if isinstance(first, dict) else None
    if not isinstance(numbers, list) or not all(isinstance(each, (int, float)) for each in numbers):
        return None
    vector_E = np.array(numbers, dtype=np.float64)
    return vector_E if np.isfinite(vector_E).all() and vector_E.any() else None


def _usage(usage: Any) -> Any:
    """Usage as that of a chat without a reply: some endpoints report a total alone, which is that of the text."""
    if not isinstance(usage, dict):
        return None
    prompt = read_tokens({**usage, "completion_tokens": 0}).prompt
    bill = {name: value for name, value in usage.items() if "cost" in name}
    return {"prompt_tokens": prompt, "completion_tokens": 0, **bill}
