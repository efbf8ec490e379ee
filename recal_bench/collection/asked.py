"""Queries that come one batch after the other, to arms of a pool: asked as in a collection, priced, and read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.collection.asking import BUDGET, INTERRUPT, Asker, Progress
from recal_bench.collection.endpoint import check_endpoints
from recal_bench.collection.journal import Journal
from recal_bench.collection.replies import spoken_of, text_of
from recal_bench.collection.requests import Arms, Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import BELIEVED, USAGES, counter, flag_of, priced, reread
from recal_bench.errors import EndpointError
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool

OPENAI = "openai"


class Answered(NamedTuple):
    """What an arm said to a query: its text, the answer that its strategy finds in it, USD, and seconds (NaN where
    nobody waited)."""

    text: str
    answer: str
    usd: float
    latency_s: float


class Desk:
    """Arms of a pool that answer queries. Every answer is in the journal as soon as it is there, and what the journal
    holds is not asked again: by this process, a later one, another one beside it, or a collection on the same journal.

    `name` is what errors call it. Raises EndpointError where a key is not set or a package is missing.
    """

    def __init__(self, pool: Pool, arms: Sequence[Arm], journal: Path, max_usd: float | None, name: str) -> None:
        self._pool, self._journal, self._max_usd, self._name = pool, journal, max_usd, name
        models = tuple(dict.fromkeys(arm.model for arm in arms))
        self._arms = Arms(pool, models, dict.fromkeys(arm.strategy for arm in arms), OPENAI)
        check_endpoints(pool, models)
        for model in models:
            counter(pool.models[model].tokenizer)

    def ask(self, asked: Sequence[tuple[Arm, str]]) -> list[Answered | None]:
        """What the arms say; None where one refuses a query, or the query is too long for it.

        Raises EndpointError where the budget is spent, a model has stopped answering, or tokens cannot be believed.
        """
        requests = {pair: self._arms.request(*pair[0], pair[1]) for pair in asked}
        by_key = {each.key: each for each in requests.values()}
        with closing(Journal(self._journal)) as journal:
            held = journal.answered(list(by_key), estimates=False)
            if absent := [each for key, each in by_key.items() if key not in held]:
                self._ask_absent(absent, journal)
            said = {key: self._read(by_key[key], each) for key, each in journal.answers(list(by_key)).items()}
        return [said.get(requests[pair].key) for pair in asked]

    def _ask_absent(self, requests: list[Request], journal: Journal) -> None:
        of_endpoint: dict[str, list[Request]] = {}
        for each in requests:
            of_endpoint.setdefault(self._pool.models[each.model].endpoint, []).append(each)
        left = Counter((name, each.model, each.strategy) for name, every in of_endpoint.items() for each in every)
        progress, spending = Progress(len(requests), left), Spending(self._pool, journal, self._max_usd)
        asker = Asker(self._pool, journal, progress, spending, estimates=False, tell=lambda *state: None)
        asker.ask({name: partial(iter, every) for name, every in of_endpoint.items()})
        if progress.stopped == INTERRUPT:
            raise KeyboardInterrupt
        if progress.stopped == BUDGET:
            raise EndpointError(
                f"{self._name}: stopped before --max-usd {self._max_usd:g} ({spending.usd:.4f} USD are spent, says "
                f"{self._journal}): the same command with a larger one goes on, and pays for no answer twice"
            )
        if progress.stopped_models:
            model, reason = next(iter(progress.stopped_models.items()))
            raise EndpointError(
                f"{self._name}: {model} has stopped answering ({reason}): what was answered is in {self._journal}, and "
                "the same command goes on"
            )

    def _read(self, request: Request, answer: Answer) -> Answered:
        """An answer with what it costs by the pool file's prices."""
        reply, model = answer.reply, self._pool.models[request.model]
        answer, spoken = reread(answer, reply), spoken_of(reply)
        flag = flag_of(answer, request.message, spoken, model)
        if flag not in BELIEVED:
            raise EndpointError(
                f"{self._name}: what an answer of {request.model} cost is not known ({USAGES[flag]}): correct the "
                f"tokenizer or the prices of pool {self._pool.pool}; the answer is kept"
            )
        usd = priced(answer, flag, request.message, spoken, model)[1]
        latency_s = float("nan") if answer.latency_s is None else answer.latency_s
        text = text_of(reply)
        return Answered(text, self._pool.strategies[request.strategy].answer(text), usd, latency_s)
