"""A language model is shown what is known of the arms, and the query, and names an arm.

The row "Prompt LLM" of Zhang, Feng and You, "Router-R1: Teaching LLMs Multi-Round Routing and Aggregation via
Reinforcement Learning" (arXiv 2506.09033, NeurIPS 2025), and the prompt-based baseline of Feng, Shen and You,
"GraphRouter" (arXiv 2410.03834, ICLR 2025). What the model costs is the router's own cost of the query.

Different here: the descriptions are numbers, each arm's score and cost on train, and not prose on the models; the goal
is stated as it is judged (score, less the weighted cost), not left to the model; and only `listed` arms, those of the
highest train utility, are described, since every description is paid for with every query. The default is six, as many
as the pool of Router-R1 has.

On the embedded pool the advice is simulated (docs/embedded-pool.md). Elsewhere `pool` names a pool file and `adviser` a
model of it, which is asked for real: through its endpoint, at its price and with its `sampling`. What was answered is
kept in the cache folder and not asked again; the record bills it all the same. The time per query that a run reports is
then the time without the model's.
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from recal_bench.errors import SettingsError
from recal_bench.outcomes import Arm, Objective
from recal_bench.routers import Calls, Context, Decisions, Queries, Reply, Train, router
from recal_bench.scoring import extract_answer
from recal_bench.toolbox.saving import Saved
from recal_bench.toolbox.targets import PRIOR_COUNT, in_fixed_order, typical_values

SIMULATED = "brelune-8b"
"""Who advises on the embedded pool: its cheapest model by the token."""
# A number by itself: no part of a name (8x22b), of a decimal number, of a share.
STANDING_ALONE = re.compile(r"(?<![\w.,|-])\d+(?![\w%|]|[.,]\d)")
THOUGHTS = re.compile(r"^.*</think>", re.DOTALL)


@router("prompt-llm")
@dataclass
class PromptLlm(Saved):
    """A language model reads what each arm scores and costs, and the query, and names an arm; its own cost is billed.

    `pool` (a pool file) and `adviser` (a model of it) say who is asked; without a pool, a simulated model of the
    embedded pool, `brelune-8b` where none is named. `describe`: each arm's mean score, or its score on every task of
    train too. `listed`: how many arms, the best on train, are described. An answer that names none of them, or one that
    is not available, gives way to the best available arm on train; how often that happened is kept in the run's
    `router/advice.json`.
    """

    LEARNT = ("names", "descriptions", "utility_A")
    deterministic: ClassVar[bool] = True
    space: ClassVar[dict[str, tuple[Any, ...]]] = {
        "adviser": (None, "dunmarrow-27b"),
        "describe": ("briefly", "by-task"),
        "listed": (3, 6, 12),
    }

    pool: str | None = None
    adviser: str | None = None
    describe: Literal["briefly", "by-task"] = "briefly"
    listed: Annotated[int, Field(ge=1)] = 6

    def fit(self, train: Train, validation: Train, context: Context) -> None:
        self._asked_for_real()  # A wrong name or a missing key is told before anything is done.
        self.names: list[str] = []
        self.descriptions: list[str] = []
        self.utility_A = np.zeros(0)
        self._add(train)

    def adapt(self, arms: Sequence[Arm], few: Train) -> None:
        """Describe arms by a few labelled train queries."""
        columns = np.array([few.outcomes.arms.index(arm) for arm in arms])
        self._add(few._replace(outcomes=few.outcomes.take_arms(columns)))

    def _add(self, train: Train) -> None:
        outcomes = in_fixed_order(train).outcomes
        utility_QA = train.objective.utility(outcomes.score_QA, outcomes.cost_QA)
        # What differs in the last digits is a tie, and a tie goes to the cheaper arm.
        utility_A = np.round(typical_values(utility_QA, outcomes, np.min), 12)
        columns = {"score": typical_values(outcomes.score_QA, outcomes, np.min, PRIOR_COUNT)}
        if train.objective.has_cost:
            columns["cost"] = 1000 * typical_values(outcomes.cost_QA, outcomes, np.max, PRIOR_COUNT)
        texts = [", ".join(each) for each in zip(*map(_stated, columns, columns.values()), strict=True)]
        if self.describe == "by-task":
            parts = {task: outcomes.take(outcomes.task_Q == task) for task in outcomes.tasks}
            by_task = [
                _stated(task, typical_values(part.score_QA, part, np.min, PRIOR_COUNT))
                for task, part in parts.items()
                if part.observed_QA.any()
            ]
            texts = [f"{text}; {', '.join(each)}" for text, *each in zip(texts, *by_task, strict=True)]
        self.names += [str(arm) for arm in outcomes.arms]
        self.descriptions += texts
        self.utility_A = np.concatenate([self.utility_A, utility_A])
        self.what_came_of: dict[str, str] = {}

    def route(self, queries: Queries, calls: Calls) -> Decisions:
        best = sorted(range(len(self.names)), key=lambda arm: (-self.utility_A[arm], self.names[arm]))[: self.listed]
        options = sorted(best, key=lambda arm: self.names[arm])
        head = self._head(options, calls.objective)
        messages = [
            f"{head}\nQuestion: {prompt}\n\nReply with the number of one option and nothing else."
            for prompt in queries.prompt
        ]
        value_QA = np.tile(self.utility_A, (len(messages), 1))
        for row, reply in enumerate(self._replies(messages, calls)):
            option = named(reply.text or "", [self.names[arm] for arm in options])
            came = "names no arm"
            if option is not None:
                available = bool(calls.available_QA[row, options[option]])
                came = "followed" if available else "names an arm that is not available"
                value_QA[row, options[option]] = self.utility_A.max() + 1
            self.what_came_of[queries.query_id[row]] = came
        return calls.choose(value_QA)

    def _head(self, options: list[int], objective: Objective) -> str:
        """The message before the question: the goal and the arms, whose cost is stated in USD per 1,000 queries."""
        goal = "score"
        if objective.cost_ref is not None and objective.alpha:
            weight = _digits(objective.alpha / (1000 * objective.cost_ref))
            goal = f"score - {weight} * cost, with the cost in USD per 1,000 questions"
        lines = [f"Choose which option is to answer the question. The goal is the highest {goal}."]
        lines += [
            f"{number}. {self.names[arm]}: {self.descriptions[arm]}" for number, arm in enumerate(options, start=1)
        ]
        return "\n".join(lines)

    def _replies(self, messages: list[str], calls: Calls) -> list[Reply]:
        adviser = self._asked_for_real()
        if adviser is None:
            if calls.adviser is None:
                raise SettingsError(
                    "router prompt-llm asks a language model, and only the embedded pool simulates one: name a pool "
                    "file and a model of it, --set prompt-llm:pool=FILE --set prompt-llm:adviser=MODEL"
                )
            return [calls.advise(row, self.adviser or SIMULATED, message) for row, message in enumerate(messages)]
        replies: list[Reply] = adviser.ask(messages)
        for row, reply in enumerate(replies):
            calls.bill(row, reply.cost)
        return replies

    def _asked_for_real(self) -> Any:
        """The model behind an endpoint; None without a pool file."""
        if self.pool is not None and not hasattr(self, "_endpoint"):
            from recal_bench.collection.advice import Adviser

            if self.adviser is None:
                raise SettingsError("router prompt-llm has a pool but no adviser: --set prompt-llm:adviser=MODEL")
            self._endpoint = Adviser(Path(self.pool), self.adviser)
        return getattr(self, "_endpoint", None)

    def save(self, folder: Path) -> None:
        super().save(folder)
        counts = Counter(self.what_came_of.values())
        unusable = (counts.total() - counts["followed"]) / max(counts.total(), 1)
        told = {"queries": counts.total(), "unusable": unusable, **dict(sorted(counts.items()))}
        (folder / "advice.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")

    def load(self, folder: Path) -> None:
        super().load(folder)
        self.what_came_of = {}


def named(text: str, names: list[str]) -> int | None:
    """The index of the option that an answer names, by its number or else its name. None for none, or two."""
    answer = extract_answer(THOUGHTS.sub("", text))
    numbers = {int(number) for number in STANDING_ALONE.findall(answer)}
    if numbers:
        (number, *others) = numbers
        return number - 1 if not others and 1 <= number <= len(names) else None
    found = [name for name in names if name in answer]
    # Of `a|cot` and `a|cot-long` the longer one is meant.
    found = [name for name in found if not any(name != other and name in other for other in found)]
    return names.index(found[0]) if len(found) == 1 else None


def _stated(what: str, value_A: np.ndarray) -> list[str]:
    return [f"{what} {_digits(value)}" for value in value_A]


def _digits(value: float) -> str:
    """Three digits, never as 1e-05."""
    return np.format_float_positional(value, precision=3, fractional=False, trim="-")
