"""Any arm on offer, each as likely as the next: the floor under every comparison."""

import hashlib
import json
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from recal_bench.routers import Calls, Context, Decisions, Queries, Train, router
from recal_bench.toolbox.saving import Saved


@router("random")
@dataclass
class RandomChoice(Saved):
    """Any available arm, with equal probability."""

    LEARNT = ("seed",)
    deterministic: ClassVar[bool] = False

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        self.seed = context.seed

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        draw_Q = np.array(
            [self._draw(*query) for query in zip(queries.query_id, queries.prompt, strict=True)], dtype=np.uint64
        )
        count_Q = np.maximum(calls.available_QA.sum(axis=1), 1).astype(np.uint64)
        rank_Q = (draw_Q % count_Q).astype(np.int64)
        arm_Q = np.argmax(np.cumsum(calls.available_QA, axis=1) > rank_Q[:, None], axis=1)
        return Decisions(arm_Q.astype(np.int64))

    def _draw(self, query_id: str, prompt: str) -> int:
        """A whole number that depends on the seed and the query alone, not on the row it is in."""
        text = json.dumps([self.seed, query_id, prompt])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
