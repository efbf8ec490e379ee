"""Reasoning strategies: how a model is asked, whatever the task. A model with a strategy is an arm."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recal_bench.scoring import extract_answer


@dataclass(frozen=True)
class Strategy:
    """How a query is put to a model, and where its answer is in the reply.

    `instruction` goes before the query, `max_tokens` bounds the reply, and `answer_pattern` is a regular expression
    whose first group (of the last match) is the answer. Without one, it is what `scoring.extract_answer` finds.
    `sampling` goes into every request: an effort of reasoning, a budget of thoughts, a temperature.
    """

    description: str
    instruction: str
    max_tokens: int
    answer_pattern: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def message(self, prompt: str) -> str:
        """What the model is sent for a query: one user message, since some models know no system role."""
        return f"{self.instruction}\n\n{prompt}"

    def answer(self, response: str) -> str:
        """The answer in a response; all of it where no answer is marked."""
        if self.answer_pattern is None:
            return extract_answer(response)
        found = re.findall(self.answer_pattern, response, re.MULTILINE)
        return str(found[-1] if found else response).strip()


STRATEGIES = {
    "direct": Strategy(
        "the answer at once",
        "Be brief. End with a line `Answer: <short phrase>`.",
        512,
    ),
    "cot": Strategy(
        "chain of thought: reason step by step, then answer",
        "Think step by step, in full sentences. End with a line `Answer: <short phrase>`.",
        1024,
    ),
    "cod": Strategy(
        "chain of draft: a few words a step, then answer",
        "Think step by step, but only draft each step, in five words at most. "
        "End with a line `Answer: <short phrase>`.",
        512,
    ),
    "self_ask": Strategy(
        "self-ask: put and answer follow-up questions, then answer",
        "Decide whether follow up questions are needed. If so, write each of them down and answer it before the next "
        "one. When none is left, conclude. End with a line `Answer: <short phrase>`.",
        1024,
    ),
}
"""Those that come with the package. A pool file may add others (`strategies:`).

Sources: chain of thought, Kojima et al. 2022 (arXiv 2205.11916); chain of draft, Xu et al. 2025 (arXiv 2502.18600);
self-ask, Press et al. 2022 (arXiv 2210.03350), put as an instruction. The embedded pool's prompt tokens are the words
of these instructions, so another wording changes its costs.
"""
