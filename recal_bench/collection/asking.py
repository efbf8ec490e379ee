"""Asking all that the journal does not hold: endpoints side by side, each with its bounded number of requests."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice

from recal_bench.collection.answer import Answer
from recal_bench.collection.breakers import ATTEMPTS, Breaker
from recal_bench.collection.endpoint import Line
from recal_bench.collection.failures import SYSTEMATIC, Failed, StoppedError, WithoutUsageError
from recal_bench.collection.journal import Journal
from recal_bench.collection.moderation import moderated_answer
from recal_bench.collection.requests import Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import BELIEVED, WITHOUT_USAGE, too_long
from recal_bench.errors import RecalBenchError
from recal_bench.pools.pool import Pool

BUDGET, INTERRUPT, FAILURE = "budget", "interrupt", "failure"
"""Why a collection stops before all is asked."""
_LOOK_UP = 64
_PAUSE_S = 0.05
_OTHERS_WAIT_S = 0.5
_TELL_EVERY_S = 0.25
Requests = Callable[[], Iterator[Request]]


@dataclass
class Progress:
    """How far a collection is. `left` counts the open requests by endpoint, model and strategy.

    `found` were in the journal when they were looked up, `asked` were answered by this collector in this pass over
    the requests and `asked_of` in all, by endpoint. `stopped` says why it ended before all was asked; `stopped_models`
    are those that had stopped answering, with the reason.
    """

    total: int
    left: Counter[tuple[str, str, str]]
    found: int = 0
    asked: int = 0
    refused: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    asked_of: Counter[str] = field(default_factory=Counter)
    flagged: int = 0
    started: float = field(default_factory=time.monotonic)
    stopped: str | None = None
    stopped_models: dict[str, str] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        return self.found + self.asked

    @property
    def elapsed_s(self) -> float:
        return max(time.monotonic() - self.started, 1e-9)

    @property
    def rate(self) -> float:
        """Answers a second, by this collector."""
        return sum(self.asked_of.values()) / self.elapsed_s

    @property
    def eta_s(self) -> float | None:
        """Seconds to go, of the endpoint that needs longest. None before each has answered."""
        left: Counter[str] = Counter()
        for (endpoint, _, _), count in self.left.items():
            left[endpoint] += count
        if any(count and not self.asked_of[name] for name, count in left.items()):
            return None
        return max((count * self.elapsed_s / self.asked_of[name] for name, count in left.items() if count), default=0.0)


Tell = Callable[[Progress, Spending], None]


class Asker:
    """Asks the requests of all endpoints until every one is in the journal, or something stops it."""

    def __init__(
        self,
        pool: Pool,
        journal: Journal,
        progress: Progress,
        spending: Spending,
        estimates: bool,
        tell: Tell,
        line: type[Line] = Line,
    ) -> None:
        self._pool, self._journal, self._progress, self._spending = pool, journal, progress, spending
        self._estimates, self._tell, self._line = estimates, tell, line
        self._failed: RecalBenchError | None = None
        self._elsewhere = False
        self._breaker = Breaker()
        progress.stopped_models = self._breaker.stopped
        self._given_up: set[bytes] = set()
        self._refused_arms: set[tuple[str, str]] = set()
        self._moderated: list[tuple[Request, str]] = []
        self._told = 0.0

    def ask(self, requests: Mapping[str, Requests]) -> None:
        """Ask the requests of each endpoint. A model or endpoint that stops answering is left, and the others go on.

        Raises RecalBenchError where the journal or the pool cannot be used any further.
        """
        asyncio.run(self._ask_all(requests))
        self._keep_moderated()
        self._tell(self._progress, self._spending)
        if self._failed:
            raise self._failed

    async def _ask_all(self, requests: Mapping[str, Requests]) -> None:
        self._gate, self._stopping = asyncio.Lock(), asyncio.Event()
        all_left = self._progress.left.copy()
        with self._interruptible():
            while True:
                await asyncio.gather(*(self._ask_endpoint(name, each) for name, each in requests.items()))
                if self._progress.stopped or not self._elsewhere:
                    return
                # Another collector had claimed some: look again whether it has answered them, or is gone.
                await asyncio.sleep(_OTHERS_WAIT_S)
                self._journal.forget_the_dead()
                self._elsewhere = False
                self._progress.left, self._progress.found, self._progress.asked = all_left.copy(), 0, 0

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        """The first interrupt ends the sending and waits for what is under way; a second one is as everywhere."""
        loop, signals = asyncio.get_running_loop(), (signal.SIGINT, signal.SIGTERM)

        def interrupt() -> None:
            for each in signals:
                loop.remove_signal_handler(each)
            self._stop(INTERRUPT)
            self._tell(self._progress, self._spending)

        with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):  # Not in the main thread.
            for each in signals:
                loop.add_signal_handler(each, interrupt)
        try:
            yield
        finally:
            with contextlib.suppress(NotImplementedError, RuntimeError, ValueError):
                for each in signals:
                    loop.remove_signal_handler(each)

    def _stop(self, reason: str) -> None:
        self._progress.stopped = self._progress.stopped or reason
        self._stopping.set()

    def _fail(self, error: RecalBenchError) -> None:
        self._failed = self._failed or error
        self._stop(FAILURE)

    async def _ask_endpoint(self, name: str, requests: Requests) -> None:
        try:
            line = self._line(name, self._pool, self._estimates, self._stopping, self._attempt_failed)
        except RecalBenchError as error:
            self._fail(error)
            return
        source = self._open_requests(name, requests())
        turn = asyncio.Lock()

        async def work(at_the_start: bool) -> None:
            try:
                while not self._progress.stopped:
                    async with turn:
                        request = await anext(source, None)
                    if request is None:
                        return
                    await self._ask_one(line, request)
                    if at_the_start and self._progress.asked_of[name]:
                        return
            except RecalBenchError as error:
                self._fail(error)

        try:
            # One at a time until the endpoint has answered once: a wrong address or key costs one request, not many.
            await work(at_the_start=True)
            await asyncio.gather(*(work(at_the_start=False) for _ in range(line.endpoint.concurrency)))
        finally:
            await source.aclose()
            await line.close()

    async def _open_requests(self, name: str, requests: Iterator[Request]) -> AsyncGenerator[Request]:
        """Those that the journal does not hold. It is read ahead by a few, so that memory does not grow."""
        models, done = self._models_of(name), False
        while not done and not self._progress.stopped and models - set(self._breaker.stopped):
            block = list(islice(requests, _LOOK_UP))
            done = len(block) < _LOOK_UP
            answered = self._journal.answered([request.key for request in block], self._estimates)
            for request in block:
                done_with = request.key in answered | self._given_up
                if not done_with and not self._stopped(request):
                    yield request
                    continue
                self._progress.found += request.key in answered
                self._progress.left[name, request.model, request.strategy] -= 1

    def _stopped(self, request: Request) -> bool:
        return request.model in self._breaker.stopped or (request.model, request.strategy) in self._refused_arms

    def _models_of(self, endpoint: str) -> set[str]:
        return {model for name, model, _ in self._progress.left if name == endpoint}

    async def _ask_one(self, line: Line, request: Request) -> None:
        if reason := too_long(request, self._pool.models[request.model]):
            self._progress.failures["too long"] += 1
            self._leave(line, request, reason)
            return
        if not await self._claimed(request):
            return
        try:
            answer = await line.ask(request, lambda failure: self._breaker.attempts(request.model, failure, ATTEMPTS))
        except Failed as failure:
            self._give_up(line, request, failure)
        else:
            self._keep(line, request, answer)
        self._tell_sometimes()

    async def _claimed(self, request: Request) -> bool:
        """Claim a request, within the budget. False where it is not ours to ask, or not to be asked at all."""
        most_usd = self._spending.most_usd(request)
        async with self._gate:
            while not self._progress.stopped:
                if not self._journal.claim(request.key, most_usd, self._estimates):
                    self._elsewhere = True
                    return False
                if not self._spending.exceeded():
                    return True
                self._journal.release(request.key)
                if not self._journal.claims():
                    self._stop(BUDGET)
                # What is under way mostly costs less than it might: there can be room for this one afterwards.
                await asyncio.sleep(_PAUSE_S)
        return False

    def _keep(self, line: Line, request: Request, answer: Answer) -> None:
        if answer.usage in WITHOUT_USAGE:
            self._journal.unsure(answer.key, "no usage", self._spending.most_usd(request))
        self._journal.keep(answer)
        self._breaker.answered(answer.model)
        self._progress.asked += 1
        self._progress.asked_of[line.name] += 1
        self._progress.left[line.name, answer.model, answer.strategy] -= 1
        self._progress.flagged += answer.usage not in BELIEVED

    def _attempt_failed(self, request: Request, failure: Failed) -> None:
        self._progress.failures[failure.kind] += 1
        if failure.billed:
            self._journal.unsure(request.key, failure.kind, self._spending.most_usd(request))
            if failure.transient and self._spending.exceeded():
                self._stop(BUDGET)

    def _give_up(self, line: Line, request: Request, failure: Failed) -> None:
        """Leave a request without an answer, and its model or endpoint where the next one would fare no better."""
        if isinstance(failure, WithoutUsageError):
            self._journal.keep(failure.answer)
        if self._progress.stopped and (failure.transient or isinstance(failure, StoppedError)):
            self._journal.release(request.key)
            return
        if failure.moderated:
            self._moderated.append((request, failure.reason))
        self._leave(line, request, failure.reason)
        if failure.reach == "arm":
            self._refused_arms.add((request.model, request.strategy))
            return
        at_the_start = not self._progress.asked_of[line.name]
        if failure.reach == "endpoint" or failure.kind == "connection" or (at_the_start and failure.kind in SYSTEMATIC):
            for model in self._models_of(line.name):
                self._breaker.stop(model, failure.reason)
        else:
            self._breaker.gave_up(request.model, failure, at_the_start)

    def _leave(self, line: Line, request: Request, reason: str) -> None:
        self._journal.refuse(request.key, request.model, reason)
        self._given_up.add(request.key)
        self._progress.refused += 1
        self._progress.left[line.name, request.model, request.strategy] -= 1

    def _keep_moderated(self) -> None:
        """A prompt that an endpoint objects to is an outcome, of a model that answers others."""
        for request, reason in self._moderated:
            if request.model in self._breaker.has_answered or self._journal.has_answer_of(request.model):
                self._journal.keep(moderated_answer(request, reason))
                self._progress.asked += 1
                self._progress.refused -= 1

    def _tell_sometimes(self) -> None:
        now = time.monotonic()
        if now - self._told >= _TELL_EVERY_S:
            self._told = now
            self._spending.refresh()
            self._tell(self._progress, self._spending)
