"""One request from its decision to its row in the log."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from recal_bench.collection.endpoint import answer_of
from recal_bench.collection.failures import Failed
from recal_bench.collection.replies import spoken_of, text_of
from recal_bench.collection.tokens import Tokens
from recal_bench.collection.usage import priced
from recal_bench.gateway.chat import Chat
from recal_bench.gateway.choosing import Choice
from recal_bench.gateway.refusals import Refusal
from recal_bench.gateway.streams import Chunk, Stream
from recal_bench.gateway.upstream import Answered
from recal_bench.outcomes import Arm

if TYPE_CHECKING:
    from recal_bench.gateway.gateway import Gateway

_TOKENS = ("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "cache_write_tokens")


@dataclass
class Exchange:
    """A chat request and what becomes of it. `id` names it for the client and in the log."""

    gateway: Gateway
    id: str
    chat: Chat
    choice: Choice
    task: str
    router: str
    whole_choice: bool
    shadow: asyncio.Task[Arm | None] | None
    start: float = field(default_factory=time.monotonic)
    answered: Answered | None = None
    done: bool = False

    @property
    def arm(self) -> Arm:
        """The arm that answers; before it does, the chosen one."""
        return self.answered.order.arm if self.answered else self.choice.arms[0]

    async def ask(self) -> None:
        """Get an answer, or the beginning of a streamed one. Raises Refusal where there is none; that is logged."""
        try:
            self.answered = await self.gateway.upstream.answer(self.chat, self.choice.arms)
        except Refusal as refusal:
            await self._end("failed", {}, f"no answer: {refusal.code}")
            raise

    async def whole(self) -> dict[str, Any]:
        """The reply, as the client gets it."""
        assert self.answered is not None
        reply = self.answered.said
        assert isinstance(reply, dict)
        await self._keep(reply)
        return reply | {"id": self.id, "model": str(self.arm)}

    async def events(self) -> AsyncIterator[bytes]:
        """The stream, as the client gets it. What breaks in the middle is an event with an error."""
        assert self.answered is not None
        stream = self.answered.said
        assert isinstance(stream, Stream)
        try:
            async for chunks in stream.chunks():
                if passed := [each for each in map(self._passed, chunks) if each is not None]:
                    yield b"".join(map(_event, passed))
            reply = stream.reply()
            await self._keep(reply)
            yield b"data: [DONE]\n\n"
        except Failed as failure:
            self.gateway.attempt_failed(self.answered.order, failure)
            reason = f"the answer of {self.arm} broke off: {stream.failed(failure)}"
            await self._end("failed", {}, "the stream broke off")
            yield _event(Refusal(502, "no_answer", reason).body)

    async def close(self) -> None:
        """Let go of a stream. One that the client has left before its end may have been billed."""
        if self.answered is None or not isinstance(self.answered.said, Stream):
            return
        if not self.done:
            self.gateway.attempt_failed(self.answered.order, Failed("left", "the client has left", billed=True))
            await self._end("left", {}, "the client has left")
        with suppress(Exception):
            await self.answered.said.close()

    def _passed(self, chunk: Chunk) -> Chunk | None:
        """A chunk for the client: under our names, and without usage that it has not asked for."""
        passed = chunk | {"id": self.id, "model": str(self.arm)}
        if not self.chat.wants_usage:
            if not chunk.get("choices") and chunk.get("usage"):
                return None
            passed.pop("usage", None)
        return passed

    async def _keep(self, reply: dict[str, Any]) -> None:
        """Price an answer, count it, and write its row."""
        assert self.answered is not None
        gateway, order, arm = self.gateway, self.answered.order, self.arm
        model, latency_s = gateway.pool.models[arm.model], time.monotonic() - self.answered.start
        answer = answer_of(order.request, model, reply, self.answered.asked_at, latency_s)
        tokens, usd = priced(answer, answer.usage, order.request.message, spoken_of(reply), model)
        gateway.budget.usd += max(usd, answer.billed_usd or 0.0)
        gateway.metrics.count("answers_total", arm=str(arm))
        gateway.metrics.count("cost_usd_total", usd, model=arm.model)
        for kind, count in zip(("prompt", "completion"), tokens[:2], strict=True):
            gateway.metrics.count("tokens_total", count or 0, model=arm.model, kind=kind)
        row = dict(zip(_TOKENS, Tokens(*tokens), strict=True)) | {
            "cost_usd": usd,
            "billed_usd": answer.billed_usd,
            "latency_s": round(latency_s, 6),
            "response": text_of(reply),
            "finish_reason": answer.finish_reason,
            "served_model": reply.get("model"),
            "usage": answer.usage,
            "asked_at": answer.asked_at,
        }
        await self._end("answered", row, self._why_apart())

    def _why_apart(self) -> str | None:
        """Why an answered request is no draw of the policy among all arms; None where it is one."""
        if self.arm != self.choice.arms[0]:
            self.gateway.metrics.count("fallbacks_total")
            return f"{self.choice.arms[0]} was chosen and did not answer"
        if not self.chat.fresh:
            return "the request goes on with an answer that had begun"
        return None if self.whole_choice else "the client allowed only some of the arms"

    async def _end(self, outcome: str, row: dict[str, Any], why_apart: str | None) -> None:
        self.done = True
        gateway = self.gateway
        gateway.metrics.count("requests_total", outcome=outcome)
        gateway.metrics.observe("request_seconds", time.monotonic() - self.start)
        if self.choice.explored:
            gateway.metrics.count("explored_total")
        would = await self.shadow if self.shadow else None
        if would is not None:
            gateway.metrics.count("shadow_total", same=str(would == self.choice.arms[0]).lower())
        named = {
            "task": self.task,
            "query_id": self.id,
            "prompt": self.chat.prompt,
            "model": self.arm.model,
            "strategy": self.arm.strategy,
            "propensity": self.choice.propensity if why_apart is None else None,
        }
        mine = {"router_run": self.router, "explored": self.choice.explored}
        mine |= {"shadow_arm": str(would)} if would is not None else {}
        gateway.log_row(named | row | mine, why_apart)


def _event(chunk: Chunk) -> bytes:
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode("utf-8", "replace") + b"\n\n"
