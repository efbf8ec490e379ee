"""A model of a pool file asked for advice by a router: through its endpoint, at the pool file's prices.

What was answered is kept in a journal in the user's cache folder (or RECAL_BENCH_CACHE), and is not paid for again.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from recal_bench.collection.answer import Answer
from recal_bench.collection.asking import INTERRUPT, Asker, Progress
from recal_bench.collection.endpoint import check_endpoints
from recal_bench.collection.journal import Journal
from recal_bench.collection.replies import MODERATED, spoken_of
from recal_bench.collection.requests import Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import BELIEVED, FEWEST_FOR_CONSTANT, USAGES, flag_of, priced, reread
from recal_bench.errors import EndpointError
from recal_bench.folders import cache_folder
from recal_bench.pools.files import read_pool
from recal_bench.pools.strategies import Strategy
from recal_bench.routers import Reply

_ADVICE = Strategy("advice: a few words", "", 64)
_NAME = "advice"
_NOT_TAKEN = ("400", "413", "422", "too long", MODERATED)
"""What an endpoint says to a request whose content it does not take. It charges nothing for that."""


class Adviser:
    """One model of a pool file. Messages go out as they are, with the model's `sampling`; a reply is short.

    Raises EndpointError on a pool file, model, key or package that cannot be used.
    """

    def __init__(self, pool_file: Path, model: str) -> None:
        self._pool = read_pool(pool_file)
        (self._name,) = self._pool.select_models((model,))
        self._model = self._pool.models[model]
        check_endpoints(self._pool, (model,))
        _, self._most = self._model.limit(_ADVICE)
        self._extra = self._model.parameters(_ADVICE)
        base_url = self._pool.endpoint_of(model).base_url
        self._journal = cache_folder() / _NAME / f"{hashlib.sha256(base_url.encode()).hexdigest()[:16]}.journal"
        self._known: dict[str, Reply] = {}

    def ask(self, messages: Sequence[str]) -> list[Reply]:
        """The reply to each message, several requests at a time. A message is asked once, however often it comes.

        No text, at no cost, where the endpoint does not take the content. Raises EndpointError where an answer could
        not be got, or its cost is not known.
        """
        requests = {text: self._request(text) for text in messages if text not in self._known}
        if requests:
            with closing(Journal(self._journal)) as journal:
                answers = self._answers(journal, list(requests.values()))
            for text, request in requests.items():
                answer = answers.get(request.key)
                self._known[text] = Reply(answer.text, self._usd(answer, text)) if answer else Reply(None, 0.0)
        return [self._known[text] for text in messages]

    def _request(self, message: str) -> Request:
        parts = [_NAME, self._name, self._model.served_model, self._extra]
        beginning = json.dumps(parts, sort_keys=True).encode() + b"\0"
        key = hashlib.sha256(beginning + message.encode("utf-8", "surrogatepass")).digest()
        return Request(key, self._name, _NAME, message, self._extra, self._most)

    def _answers(self, journal: Journal, requests: list[Request]) -> dict[bytes, Answer]:
        """The answers of those that have one; the others were not taken."""
        endpoint = self._model.endpoint
        progress = Progress(len(requests), Counter({(endpoint, self._name, _NAME): len(requests)}))
        asker = Asker(self._pool, journal, progress, Spending(self._pool, journal), False, lambda *state: None)
        asker.ask({endpoint: lambda: iter(requests)})
        found = journal.answers([request.key for request in requests])
        answers = {key: reread(answer, answer.reply) for key, answer in found.items()}
        for request in requests:
            # First, since it says more: a reply without usage is what an endpoint is given up for.
            if request.key in answers:
                self._check(self._flag(answers[request.key], request.message))
        if self._name in progress.stopped_models:
            raise EndpointError(
                f"{progress.stopped_models[self._name]}; what was answered is kept, and the same command goes on from "
                "there"
            )
        if progress.stopped == INTERRUPT:
            raise KeyboardInterrupt
        if sum(progress.failures[kind] for kind in _NOT_TAKEN) < progress.refused:
            (_, _, reason), *_ = (each for each in journal.refusals() if each[0] == self._name)
            raise EndpointError(
                f"{self._name} gave no advice on {len(requests) - len(answers):,} of {len(requests):,} queries "
                f"({reason}); what was answered is kept, and the same command goes on from there"
            )
        if self._name in journal.constant_usage(FEWEST_FOR_CONSTANT):
            self._check("constant")
        return answers

    def _flag(self, answer: Answer, message: str) -> str:
        return flag_of(answer, message, spoken_of(answer.reply), self._model)

    def _check(self, flag: str) -> None:
        if flag not in BELIEVED:
            raise EndpointError(
                f"the advice of {self._name} cannot be priced: {USAGES[flag]}; correct `tokenizer` in the pool file, "
                "or let a model of another endpoint advise"
            )

    def _usd(self, answer: Answer, message: str) -> float:
        return priced(answer, self._flag(answer, message), message, spoken_of(answer.reply), self._model)[1]
