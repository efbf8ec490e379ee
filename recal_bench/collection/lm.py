"""An arm as a language model of lm-eval: it answers from the journal, and asks its endpoint for what is not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from lm_eval.api.model import LM

from recal_bench.collection.answer import Answer
from recal_bench.collection.asking import Asker, Progress
from recal_bench.collection.journal import Journal
from recal_bench.collection.requests import Arms, Request
from recal_bench.collection.spending import Spending
from recal_bench.errors import EndpointError, RecalBenchError

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


class ArmLM(LM):  # type: ignore[misc]
    """Model and strategy of a pool, for lm-eval: `simple_evaluate(model=ArmLM(...), tasks=[...])`.

    The strategy turns lm-eval's context into the message that is sent, and finds the answer in the reply.
    """

    def __init__(self, arms: Arms, model: str, strategy: str, journal: Journal) -> None:
        super().__init__()
        self._arms, self._model, self._strategy, self._journal = arms, model, strategy, journal

    def requests(self, prompts: Sequence[str]) -> list[Request]:
        """What is sent for each prompt."""
        return [self._arms.request(self._model, self._strategy, prompt) for prompt in prompts]

    def held(self, requests: Sequence[Request]) -> dict[bytes, Answer]:
        """The answers that the journal holds, by the requests' keys."""
        return self._journal.answers([request.key for request in requests])

    def answer_in(self, answer: Answer) -> str:
        """The answer that the strategy finds in a reply."""
        return self._arms.pool.strategies[self._strategy].answer(answer.text)

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """The answers to lm-eval's requests. Raises EndpointError where one could not be got."""
        asked = self.requests([str(instance.args[0]) for instance in requests])
        progress = self._ask(asked)
        answers = self.held(asked)
        lost = sum(request.key not in answers for request in asked)
        if lost:
            reasons = {model: why for model, _, why in self._journal.refusals()} | progress.stopped_models
            reason = reasons.get(self._model, "stopped")
            raise EndpointError(
                f"{self._model}|{self._strategy} gave no answer to {lost} of {len(asked)} requests ({reason})"
            )
        return [self.answer_in(answers[request.key]) for request in asked]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise _no_likelihoods()

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> NoReturn:
        raise _no_likelihoods()

    def _ask(self, requests: list[Request]) -> Progress:
        pool = self._arms.pool
        endpoint = pool.models[self._model].endpoint
        progress = Progress(len(requests), Counter({(endpoint, self._model, self._strategy): len(requests)}))
        asker = Asker(pool, self._journal, progress, Spending(pool, self._journal), False, lambda *state: None)
        asker.ask({endpoint: lambda: iter(requests)})
        return progress


def _no_likelihoods() -> RecalBenchError:
    return EndpointError("chat endpoints give no likelihoods: choose a task that generates text")
