"""A model of a pool file that a router consults: through its endpoint, at the pool file's prices.

What was answered is kept in a journal in the user's cache folder (or RECAL_BENCH_CACHE), and is not paid for again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

from recal_bench.collection.answer import Answer
from recal_bench.collection.asking import BUDGET, INTERRUPT, Asker, Progress
from recal_bench.collection.endpoint import Line, check_endpoints
from recal_bench.collection.journal import Journal
from recal_bench.collection.replies import MODERATED, spoken_of
from recal_bench.collection.requests import Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import BELIEVED, FEWEST_FOR_CONSTANT, USAGES, flag_of, priced, reread
from recal_bench.errors import EndpointError
from recal_bench.folders import cache_folder
from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Model

_NOT_TAKEN = ("400", "413", "422", "too long", MODERATED)
"""What an endpoint says to a request whose content it does not take. It charges nothing for that."""


class Consulted:
    """One model of a pool file, and what it has answered. A message is asked once, however often it comes.

    Raises EndpointError on a pool file, model, key or package that cannot be used.
    """

    purpose: ClassVar[str]
    """What it gives, in messages, in the journal and as the journal's folder."""
    line: ClassVar[type[Line]] = Line
    takes_all: ClassVar[bool] = False
    """Whether a message without an answer is an error, and not what an endpoint may refuse."""

    def __init__(self, pool_file: Path, model: str) -> None:
        self.pool = read_pool(pool_file)
        (self.name,) = self.pool.select_models((model,))
        self.model: Model = self.pool.models[model]
        check_endpoints(self.pool, (model,))
        self.extra, self._most = self.parameters()
        named = self.journal_named()
        self._journal = cache_folder() / self.purpose / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.journal"

    def parameters(self) -> tuple[dict[str, Any], int]:
        """What a request holds beside model and message, and the most tokens of a reply."""
        raise NotImplementedError

    def journal_named(self) -> str:
        """What the journal is of."""
        return self.pool.endpoint_of(self.name).base_url

    def answers_to(self, messages: Sequence[str], max_usd: float | None = None) -> dict[str, Answer]:
        """The answers to messages, several requests at a time, without those that the endpoint does not take.

        Raises EndpointError where an answer could not be got, its cost is not known, or the journal's answers come to
        `max_usd`.
        """
        requests = {text: self._request(text) for text in messages}
        with closing(Journal(self._journal)) as journal:
            answers = self._answers(journal, list(requests.values()), max_usd)
        return {text: answers[each.key] for text, each in requests.items() if each.key in answers}

    def usd(self, answer: Answer, message: str) -> float:
        """What an answer costs."""
        return priced(answer, self._flag(answer, message), message, spoken_of(answer.reply), self.model)[1]

    def _request(self, message: str) -> Request:
        parts = [self.purpose, self.name, self.model.served_model, self.extra]
        beginning = json.dumps(parts, sort_keys=True).encode() + b"\0"
        key = hashlib.sha256(beginning + message.encode("utf-8", "surrogatepass")).digest()
        return Request(key, self.name, self.purpose, message, self.extra, self._most)

    def _answers(self, journal: Journal, requests: list[Request], max_usd: float | None) -> dict[bytes, Answer]:
        """The answers of those that have one; the others were not taken."""
        endpoint = self.model.endpoint
        progress = Progress(len(requests), Counter({(endpoint, self.name, self.purpose): len(requests)}))
        spending = Spending(self.pool, journal, max_usd)
        asker = Asker(self.pool, journal, progress, spending, False, lambda *state: None, self.line)
        asker.ask({endpoint: lambda: iter(requests)})
        found = journal.answers([request.key for request in requests])
        answers = {key: reread(answer, answer.reply) for key, answer in found.items()}
        for request in requests:
            # First, since it says more: a reply without usage is what an endpoint is given up for.
            if request.key in answers:
                self._check(self._flag(answers[request.key], request.message))
        if self.name in progress.stopped_models:
            raise EndpointError(
                f"{progress.stopped_models[self.name]}; what was answered is kept, and the same command goes on from "
                "there"
            )
        if progress.stopped == INTERRUPT:
            raise KeyboardInterrupt
        if progress.stopped == BUDGET:
            raise EndpointError(
                f"{self.name} is asked no further: with the next {self.purpose} its cost could pass {max_usd:g} USD; "
                "what was answered is kept, and the same command goes on from there with a higher limit"
            )
        not_taken = 0 if self.takes_all else sum(progress.failures[kind] for kind in _NOT_TAKEN)
        if not_taken < progress.refused:
            (_, _, reason), *_ = (each for each in journal.refusals() if each[0] == self.name)
            raise EndpointError(
                f"{self.name} gave no {self.purpose} on {len(requests) - len(answers):,} of {len(requests):,} queries "
                f"({reason}); what was answered is kept, and the same command goes on from there"
            )
        if self.name in journal.constant_usage(FEWEST_FOR_CONSTANT):
            self._check("constant")
        return answers

    def _flag(self, answer: Answer, message: str) -> str:
        return flag_of(answer, message, spoken_of(answer.reply), self.model)

    def _check(self, flag: str) -> None:
        if flag not in BELIEVED:
            raise EndpointError(
                f"the {self.purpose} of {self.name} cannot be priced: {USAGES[flag]}; correct `tokenizer` in the pool "
                "file, or take a model of another endpoint"
            )
