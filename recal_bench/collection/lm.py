"""An arm as a language model of lm-eval: it answers from the journal, and has asked what is not there."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from lm_eval.api.model import LM

from recal_bench.collection.endpoint import reply_of
from recal_bench.collection.journal import Answer, Journal
from recal_bench.collection.requests import Arms, Request
from recal_bench.errors import RecalBenchError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class ArmLM(LM):  # type: ignore[misc]
    """Model and strategy of a pool, for lm-eval: `simple_evaluate(model=ArmLM(...), tasks=[...])`.

    The strategy turns lm-eval's context into the message that is sent, and finds the answer in the reply. `ask` is
    given the requests that the journal does not hold; afterwards it does.
    """

    def __init__(
        self, arms: Arms, model: str, strategy: str, journal: Journal, ask: Callable[[Sequence[Request]], None]
    ) -> None:
        super().__init__()
        self._arms, self._model, self._strategy = arms, model, strategy
        self._journal, self._ask = journal, ask

    def requests(self, prompts: Sequence[str]) -> list[Request]:
        """What is sent for each prompt."""
        return [self._arms.request(self._model, self._strategy, prompt) for prompt in prompts]

    def answer_in(self, answer: Answer) -> str:
        """The answer that the strategy finds in a reply."""
        return self._arms.pool.strategies[self._strategy].answer(response_of(answer))

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers to lm-eval's requests. Raises RecalBenchError where one could not be got."""
        asked = self.requests([str(instance.args[0]) for instance in requests])
        keys = [request.key for request in asked]
        held = self._journal.answered(keys, estimates=True)
        self._ask([request for request in asked if request.key not in held])
        answers = self._journal.answers(keys)
        lost = sum(key not in answers for key in keys)
        if lost:
            raise RecalBenchError(f"{self._model}|{self._strategy} gave no answer to {lost} of {len(keys)} requests")
        return [self.answer_in(answers[key]) for key in keys]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise _no_likelihoods()

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise _no_likelihoods()


def response_of(answer: Answer) -> str:
    """The text of a reply."""
    body: Any = json.loads(answer.body)
    return reply_of(body)[0]


def _no_likelihoods() -> RecalBenchError:
    return RecalBenchError("chat endpoints give no likelihoods: choose a task that generates text")
