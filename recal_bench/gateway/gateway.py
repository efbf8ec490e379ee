"""The gateway: a live router, the pool's endpoints, a budget, a log and the counts of all that happens."""

from __future__ import annotations

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

from recal_bench.collection.endpoint import check_endpoints
from recal_bench.collection.failures import Failed
from recal_bench.collection.usage import counter
from recal_bench.errors import RecalBenchError, SettingsError
from recal_bench.gateway.budget import Budget
from recal_bench.gateway.chat import Chat, Order
from recal_bench.gateway.choosing import choose
from recal_bench.gateway.exchange import Exchange
from recal_bench.gateway.live import LiveRouter, load_live
from recal_bench.gateway.log import DecisionLog
from recal_bench.gateway.metrics import Gauge, Metrics
from recal_bench.gateway.upstream import Upstream
from recal_bench.outcomes import Arm
from recal_bench.outcomes.schema import WITHOUT
from recal_bench.pools.pool import Pool


@dataclass(frozen=True)
class Settings:
    """What `serve` is told. `epsilon` is the share of requests whose arm is drawn at random, for the log."""

    run: Path
    pool: Pool
    shadow: Path | None = None
    epsilon: float = 0.0
    log: Path | None = None
    max_usd: float | None = None
    key: str | None = None


class Gateway:
    """Routes requests, has them answered, and keeps account. `open` and all else happen in one event loop.

    Raises RecalBenchError where the run, the pool, a key of an endpoint or the log cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        if not 0 <= settings.epsilon <= 1:
            raise SettingsError(f"--epsilon {settings.epsilon:g}: give a share between 0 and 1")
        self.settings, self.pool = settings, settings.pool
        self._executor = ThreadPoolExecutor(1, "router")
        self.live = self._load()
        self._shadow = load_live(settings.shadow, None, self._executor) if settings.shadow else None
        self.log = DecisionLog(settings.log) if settings.log else None
        self.budget = Budget(self.pool, settings.max_usd, self.log.usd if self.log is not None else 0.0)
        self.metrics, self.problem, self.under_way = Metrics(), "", 0
        self._random, self._reloading = SystemRandom(), asyncio.Lock()

    async def open(self) -> None:
        self.upstream = Upstream(self.pool, self.budget, self.attempt_failed)

    async def close(self) -> None:
        await self.upstream.close()
        self._executor.shutdown(wait=False)
        if self.log is not None:
            self.log.close()

    async def begin(self, chat: Chat, task: str | None) -> Exchange:
        """Decide which arm answers. Raises Refusal where the client allows no arm, RecalBenchError from the router."""
        live, query_id, start = self.live, f"chatcmpl-{secrets.token_hex(12)}", time.monotonic()
        allowed = chat.allowed(live.router.arms)
        shadow = asyncio.create_task(self._in_shadow(chat, query_id)) if self._shadow else None
        ranking = await live.rank(chat.prompt, query_id, chat.features)
        for name in set(live.router.features) - set(chat.features):
            self.metrics.count("unknown_features_total", feature=name)
        self.metrics.observe("routing_seconds", time.monotonic() - start)
        # What has begun to be answered stays with the router's own choice.
        choice = choose(ranking, allowed, self.settings.epsilon if chat.fresh else 0.0, self._random)
        whole = len(allowed) == len(live.router.arms)
        return Exchange(self, query_id, chat, choice, task or WITHOUT["task"], live.name, whole, shadow, start)

    async def reload(self) -> str:
        """Load the run again from where `--run` points now; the router of before answers what is under way.

        Returns the router's name. Raises RecalBenchError where it cannot be used; then nothing changes.
        """
        async with self._reloading:
            try:
                self.live = await asyncio.to_thread(self._load)
            except RecalBenchError:
                self.metrics.count("reloads_total", succeeded="false")
                raise
        self.metrics.count("reloads_total", succeeded="true")
        return self.live.name

    def feedback(self, query_id: str, score: float) -> bool:
        """Write the score of a request into the log. False where the log does not know it."""
        known = self.log is not None and self.log.score(query_id, score)
        self.metrics.count("feedback_total", int(known))
        return known

    def log_row(self, row: dict[str, Any], why_apart: str | None) -> None:
        """A log that cannot be written is no reason to answer nobody: `health` tells of it."""
        if self.log is None:
            return
        try:
            self.log.add(row, why_apart)
        except OSError as error:
            self.problem = f"the log {self.log.path} cannot be written: {error.strerror}"

    def attempt_failed(self, order: Order, failure: Failed) -> None:
        self.metrics.count("failed_attempts_total", model=order.arm.model, kind=failure.kind)
        if failure.billed:
            self.budget.unsure_usd += self.budget.most_usd(order)

    def health(self) -> dict[str, Any]:
        return {
            "status": "degraded" if self.problem else "ok",
            **({"problem": self.problem} if self.problem else {}),
            "router": self.live.name,
            "pool": self.pool.pool,
            "price_book": self.pool.price_book,
            "models_resting": self.upstream.breakers.stopped(),
        }

    def gauges(self) -> dict[str, Gauge]:
        limit = self.budget.max_usd
        return {
            "run_info": Gauge("The router that decides.", 1, (("router", self.live.name),)),
            "requests_under_way": Gauge("Requests that are being answered.", self.under_way),
            "models_resting": Gauge("Models that are not asked for now.", len(self.upstream.breakers.stopped())),
            "spent_usd": Gauge("What answers cost, those of an earlier process on this log included.", self.budget.usd),
            "unsure_usd": Gauge("The most that attempts without an answer can have cost.", self.budget.unsure_usd),
            **({} if limit is None else {"budget_usd": Gauge("What may be spent.", limit)}),
        }

    def _load(self) -> LiveRouter:
        live = load_live(self.settings.run, self.pool, self._executor)
        models = tuple({arm.model for arm in live.router.arms})
        check_endpoints(self.pool, models)
        for model in models:
            counter(self.pool.models[model].tokenizer)
        return live

    async def _in_shadow(self, chat: Chat, query_id: str) -> Arm | None:
        """What the shadow router would choose; None where it fails, which is counted."""
        assert self._shadow is not None
        try:
            return (await self._shadow.rank(chat.prompt, query_id, chat.features))[0]
        except RecalBenchError:
            self.metrics.count("shadow_total", same="failed")
            return None
