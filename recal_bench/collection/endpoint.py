"""One endpoint: a request goes out through the openai client, and again where that can help; its reply is judged."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from recal_bench.collection.answer import Answer, spoken_of, text_of
from recal_bench.collection.requests import Request
from recal_bench.collection.usage import WITHOUT_USAGE, counter, judged, read_tokens
from recal_bench.errors import EndpointError
from recal_bench.pools.pool import Endpoint, Model, Pool

if TYPE_CHECKING:
    import openai

ATTEMPTS = 8
ATTEMPTS_OF_THE_FIRST = 3
"""Before an endpoint has answered at all, it is more likely a wrong address than a bad moment."""
_SYSTEMATIC = ("wrong model", "no usage")
_MOST_SYSTEMATIC = 3
"""So many replies to one request show how an endpoint works, not a bad moment. Each is billed, so no more are tried."""
LONGEST_WAIT_S = 600.0
_FIRST_WAIT_S, _LONGEST_BACKOFF_S = 0.25, 30.0
_HOPELESS = {401: "the key is refused", 402: "payment is required", 403: "access is refused", 404: "it is not found"}
_FOR_LATER = (408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529)


class Failed(Exception):  # noqa: N818
    """A request without a usable answer. `reason` is one line, `kind` counts it in summaries.

    `transient`: asking again may help. `hopeless`: no request to this endpoint will fare better. `billed`: the
    endpoint may have charged for it.
    """

    def __init__(
        self,
        kind: str,
        reason: str,
        *,
        transient: bool = False,
        hopeless: bool = False,
        billed: bool = False,
        wait_s: float = 0.0,
    ) -> None:
        super().__init__(reason)
        self.kind, self.reason = kind, reason
        self.transient, self.hopeless, self.billed, self.wait_s = transient, hopeless, billed, wait_s


class Line:
    """A connection to an endpoint, for the models that it serves.

    `estimates`: whether an answer without usage is taken. `on_failure` is told of every failed attempt.
    """

    def __init__(self, name: str, pool: Pool, estimates: bool, on_failure: Callable[[Request, Failed], None]) -> None:
        import openai
        from aiolimiter import AsyncLimiter

        self.name, self.endpoint = name, pool.endpoints[name]
        self._models, self._estimates, self._on_failure = pool.models, estimates, on_failure
        self._key = self.endpoint.key()
        self._client = openai.AsyncOpenAI(
            base_url=self.endpoint.base_url,
            api_key=self._key or "none",
            timeout=self.endpoint.timeout_s,
            max_retries=0,
        )
        per_minute, tokens = self.endpoint.requests_per_minute, self.endpoint.tokens_per_minute
        self._requests = AsyncLimiter(per_minute, 60) if per_minute else None
        self._tokens = AsyncLimiter(tokens, 60) if tokens else None
        self._resume_at = 0.0

    async def close(self) -> None:
        await self._client.close()

    async def ask(self, request: Request, attempts: int = ATTEMPTS) -> Answer:
        """The answer to a request. Raises Failed when `attempts` are used up, or more of them would not help."""
        import tenacity

        systematic = 0

        def wait(state: tenacity.RetryCallState) -> float:
            failure = state.outcome.exception() if state.outcome else None
            asked_for = failure.wait_s if isinstance(failure, Failed) else 0.0
            return max(asked_for, float(backoff(state)))

        def stop(state: tenacity.RetryCallState) -> bool:
            nonlocal systematic
            failure = state.outcome.exception() if state.outcome else None
            if isinstance(failure, Failed) and failure.kind in _SYSTEMATIC:
                # These alone are counted: between them, other attempts may have met a bad moment.
                systematic += 1
                failure.hopeless = systematic == _MOST_SYSTEMATIC
            return systematic == _MOST_SYSTEMATIC or state.attempt_number >= attempts

        backoff = tenacity.wait_exponential(_FIRST_WAIT_S, _LONGEST_BACKOFF_S) + tenacity.wait_random(0, _FIRST_WAIT_S)
        retrying = tenacity.AsyncRetrying(
            stop=stop,
            wait=wait,
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, Failed) and error.transient),
            reraise=True,
        )
        answer: Answer = await retrying(self._attempt, request)
        return answer

    async def _attempt(self, request: Request) -> Answer:
        try:
            await self._may_send(request)
            return await self._send(request)
        except Failed as failure:
            failure.reason = self._without_key(failure.reason)
            self._on_failure(request, failure)
            raise

    async def _may_send(self, request: Request) -> None:
        if self._requests:
            await self._requests.acquire()
        if self._tokens:
            needed = len(request.message) // 4 + request.most_completion
            await self._tokens.acquire(min(needed, self._tokens.max_rate))
        while (delay := self._resume_at - time.monotonic()) > 0:
            await asyncio.sleep(delay)

    async def _send(self, request: Request) -> Answer:
        import openai

        model = self._models[request.model]
        asked_at, start = datetime.now(timezone.utc).isoformat(timespec="seconds"), time.monotonic()
        try:
            # The client's own way to any address: its typed one rebuilds every request and reply, field by field.
            reply = await self._client.post(
                "/chat/completions",
                body={
                    "model": model.served_model,
                    "messages": [{"role": "user", "content": request.message}],
                    **request.extra,
                },
                cast_to=openai.HttpxBinaryResponseContent,
            )
        except openai.APIStatusError as error:
            raise self._status(error, model) from None
        except openai.APITimeoutError:
            reason = f"no answer within {self.endpoint.timeout_s:g} s (timeout_s)"
            raise Failed("timeout", reason, transient=True, billed=True) from None
        except openai.APIConnectionError as error:
            raise self._connection(error) from None
        body = self._read(reply.content)
        return self._answer(request, model, body, asked_at, time.monotonic() - start)

    def _answer(self, request: Request, model: Model, body: Any, asked_at: str, latency_s: float) -> Answer:
        response, finish_reason = text_of(body), body["choices"][0].get("finish_reason")
        finish_reason = finish_reason if isinstance(finish_reason, str) else None
        served = body.get("model")
        if served not in (model.served_model, *model.served_as):
            raise Failed(
                "wrong model",
                f"{self.name} answered as {json.dumps(served)[:80]} when {model.served_model} was asked: if that is "
                f"the model you mean, at the price you state, add it to served_as of {request.model} in the pool file",
                transient=True,
                billed=True,
            )
        tokens = read_tokens(body.get("usage"))
        flag = judged(tokens, request.message, spoken_of(body), counter(model.tokenizer))
        answer = Answer(
            request.key, request.model, request.strategy, json.dumps(body, ensure_ascii=False), *tokens, flag,
            len(request.message), len(response), finish_reason, latency_s, asked_at,
        )  # fmt: skip
        if flag in WITHOUT_USAGE and not self._estimates:
            raise WithoutUsageError(
                answer,
                f"{self.name} reports no tokens for {request.model}, so its cost is unknown: with "
                "--allow-estimated-usage they are counted by the tokenizer of the pool file",
            )
        return answer

    def _read(self, content: bytes) -> Any:
        try:
            body = json.loads(self._without_key(content.decode("utf-8")))
        except ValueError:
            raise Failed("malformed", "the reply is not JSON in UTF-8", transient=True, billed=True) from None
        if not _has_choice(body):
            raise Failed("malformed", "the reply holds no choice with a message", transient=True, billed=True)
        return body

    def _status(self, error: openai.APIStatusError, model: Model) -> Failed:
        status, said = error.status_code, " ".join(str(_message(error.body) or error.message).split())[:200]
        where = f"{self.name} ({self.endpoint.base_url})"
        if status in _HOPELESS or _code(error.body) == "insufficient_quota":
            what, variable = _HOPELESS.get(status, "the quota is used up"), self.endpoint.api_key_env
            hints = {
                401: f"; check {f'the variable {variable}' if variable else 'whether it needs a key (api_key_env)'}",
                404: f"; check base_url, and whether it serves {model.served_model}",
            }
            return Failed(f"{status}", f"{where}: {what} ({status}: {said}){hints.get(status, '')}", hopeless=True)
        if status in _FOR_LATER:
            wait_s = _retry_after(error.response.headers.get("retry-after"))
            if wait_s > LONGEST_WAIT_S:
                return Failed(f"{status}", f"{where} asks to wait {wait_s:,.0f} s: try again then", hopeless=True)
            if wait_s:
                self._resume_at = max(self._resume_at, time.monotonic() + wait_s)
            return Failed(f"{status}", f"{where}: {status}: {said}", transient=True, wait_s=wait_s)
        return Failed(f"{status}", f"{where} refuses the request ({status}: {said})")

    def _connection(self, error: openai.APIConnectionError) -> Failed:
        cause: BaseException = error
        while cause.__cause__ or cause.__context__:
            cause = cause.__cause__ or cause.__context__ or cause
        said = " ".join(str(cause).split()) or type(cause).__name__
        # Before there is a connection, nothing has been sent.
        sent = "Connect" not in type(error.__cause__).__name__
        if sent:
            return Failed("cut", f"{self.name}: the connection broke ({said})", transient=True, billed=True)
        here = urlsplit(self.endpoint.base_url).hostname in ("localhost", "127.0.0.1", "::1")
        what = "that its server is running" if here else "the network"
        reason = f"{self.name} cannot be reached at {self.endpoint.base_url} ({said}): check base_url, and {what}"
        return Failed("connection", reason, transient=True)

    def _without_key(self, text: str) -> str:
        return text.replace(self._key, "***") if self._key else text


class WithoutUsageError(Failed):
    """A reply that says nothing of its tokens. `answer` is kept all the same: it can be priced by an estimate."""

    def __init__(self, answer: Answer, reason: str) -> None:
        super().__init__("no usage", reason, transient=True, billed=True)
        self.answer = answer


def _has_choice(body: Any) -> bool:
    choices = body.get("choices") if isinstance(body, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    return isinstance(first, dict) and isinstance(first.get("message"), dict)


def _message(body: Any) -> Any:
    return body.get("message") if isinstance(body, dict) else None


def _code(body: Any) -> Any:
    return body.get("code") if isinstance(body, dict) else None


def _retry_after(header: str | None) -> float:
    """Seconds of a Retry-After header: a number or a date."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(header) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def check_endpoints(pool: Pool, models: tuple[str, ...]) -> dict[str, Endpoint]:
    """The endpoints that serve the models. Raises EndpointError where a key is not set or a package is missing."""
    try:
        import aiolimiter  # noqa: F401
        import openai  # noqa: F401
        import tenacity  # noqa: F401
    except ImportError as error:
        raise EndpointError(
            f"{error.name} is not installed: pip install '.[collect]' in a checkout of recal-bench"
        ) from error
    endpoints = {pool.models[name].endpoint: pool.endpoint_of(name) for name in models}
    for endpoint in endpoints.values():
        endpoint.key()
    return endpoints
