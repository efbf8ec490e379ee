"""Answers that are not of a collection, scored as one is: by their task's metric, against the reference answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from recal_bench.collection.grading import choose_metric, scores_of
from recal_bench.collection.questions import SPLITS, Document, load_questions
from recal_bench.errors import EndpointError
from recal_bench.outcomes import Outcomes
from recal_bench.wording import some_of

Verify = Callable[[Sequence[tuple[int, str]]], list[float]]
_LISTED = 5


def verifiers(source: str, splits: Sequence[Outcomes]) -> list[Verify]:
    """For each split what scores answers to its queries: rows and answers to scores from 0 to 1.

    Queries are found by task and prompt among the documents of `source` (see `load_questions`). Raises EndpointError
    where a task has no data there or no one metric, or a query is not among its documents.
    """
    names = sorted({task for outcomes in splits for task in outcomes.tasks})
    loaded = load_questions(names, source, SPLITS, {})
    task_of = {each.name: (each.task, choose_metric(each.task, each.name, None)) for each in loaded}
    wanted = {key for outcomes in splits for key in zip(outcomes.task_Q, outcomes.prompt_Q, strict=True)}
    documents = {
        (each.task, each.prompt): each
        for questions in loaded
        for split in questions.splits
        for each in questions.documents(split)
        if (each.task, each.prompt) in wanted
    }
    return [_verifier(source, outcomes, documents, task_of) for outcomes in splits]


def _verifier(
    source: str, outcomes: Outcomes, documents: dict[tuple[str, str], Document], task_of: dict[str, Any]
) -> Verify:
    key_Q = list(zip(outcomes.task_Q, outcomes.prompt_Q, strict=True))
    rows = [row for row, key in enumerate(key_Q) if key not in documents]
    if rows:
        lacking = [f"{outcomes.task_Q[row]} {outcomes.query_id_Q[row]}" for row in rows]
        raise EndpointError(
            f"{len(lacking):,} of {len(key_Q):,} queries have no reference answer among the questions of {source} "
            f"({some_of(lacking, _LISTED)}): name in the pool file, under `questions`, where they come from"
        )

    def verify(answers: Sequence[tuple[int, str]]) -> list[float]:
        scores = [0.0] * len(answers)
        for name, (task, metric) in task_of.items():
            places = [place for place, (row, _) in enumerate(answers) if key_Q[row][0] == name]
            of_task = [documents[key_Q[answers[place][0]]] for place in places]
            found = scores_of(task, metric, of_task, [answers[place][1] for place in places]) if places else []
            for place, score in zip(places, found, strict=True):
                scores[place] = score
        return scores

    return verify
