"""From the journal to outcomes: lm-eval's filters and metrics on every answer, with tokens, cost and flags."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.collection.journal import Journal
from recal_bench.collection.lm import ArmLM
from recal_bench.collection.questions import Document, Questions
from recal_bench.collection.replies import CONTENT_FILTER, MODERATED, REFUSAL, TOOL_CALLS, ending_of, spoken_of, text_of
from recal_bench.collection.requests import Arms, Request
from recal_bench.collection.usage import BELIEVED, FEWEST_FOR_CONSTANT, USAGES, flag_of, priced, reread
from recal_bench.errors import EndpointError, near_miss

_ROWS = 20_000
_PREFERRED = "exact_match"
EMPTY = "empty"
ENDINGS = {
    "length": "answers were cut off at their token limit",
    REFUSAL: "answers are refusals",
    CONTENT_FILTER: "answers were ended by the endpoint's content filter",
    MODERATED: "prompts were refused by the endpoint's moderation",
    TOOL_CALLS: "answers call a tool instead",
    EMPTY: "answers are empty",
}
"""What is said of answers that ended otherwise than by themselves. Each counts as an answer."""


class Metric(NamedTuple):
    """What becomes the score: a metric of a task, on the output of one of its filters."""

    name: str
    filter: str


@dataclass
class Graded:
    """Counts over the rows that were written: by model and flag, model and ending, and arm.

    `bills` holds by model what the endpoint says that it charged, and what the same answers cost by the pool file.
    """

    rows: int = 0
    usd: float = 0.0
    flags: Counter[tuple[str, str]] = field(default_factory=Counter)
    missing: Counter[tuple[str, str]] = field(default_factory=Counter)
    endings: Counter[tuple[str, str]] = field(default_factory=Counter)
    bills: dict[str, tuple[float, float]] = field(default_factory=dict)


def choose_metric(task: Any, name: str, asked: str | None) -> Metric:
    """The metric of a task that `METRIC` or `METRIC,FILTER` names; without one exact match, or the only one.

    Raises EndpointError where the task has no such metric, or the choice is not clear.
    """
    metrics, filters = list(task.aggregation()), [each.name for each in task._filters]
    wanted, _, filter_name = (asked or "").partition(",")
    wanted = wanted or (_PREFERRED if _PREFERRED in metrics else metrics[0] if len(metrics) == 1 else "")
    filter_name = filter_name or (filters[0] if len(filters) == 1 else "")
    if wanted not in metrics or filter_name not in filters:
        hint = near_miss(wanted, metrics) if wanted and wanted not in metrics else ""
        offered = ", ".join(
            f"{metric},{each}" if len(filters) > 1 else metric for metric in metrics for each in filters
        )
        raise EndpointError(f"task {name}: choose the metric that is the score{hint}: --metric, one of {offered}")
    return Metric(wanted, filter_name)


def outcome_blocks(
    questions: Sequence[Questions], arms: Arms, journal: Journal, metric: str | None, graded: Graded
) -> Iterator[dict[str, list[Any]]]:
    """The outcomes of all answers in the journal, as columns, block by block; `graded` is filled on the way.

    Rows come by task, split, document and arm, whatever the order of the answers. Where a collection has only one
    split the column `split` is null: `run` then makes the splits.
    """
    metrics = {each.name: choose_metric(each.task, each.name, metric) for each in questions}
    constant = journal.constant_usage(FEWEST_FOR_CONSTANT)
    one_split = len({split for each in questions for split in each.splits}) == 1
    for each in questions:
        for split in each.splits:
            documents = each.documents(split)
            while block := list(islice(documents, max(1, _ROWS // len(arms)))):
                columns = _graded_block(each.task, metrics[each.name], block, arms, journal, constant, graded)
                if one_split:
                    columns["split"] = [None] * len(columns["split"])
                if columns["score"]:
                    yield columns


def _graded_block(
    task: Any,
    metric: Metric,
    block: list[Document],
    arms: Arms,
    journal: Journal,
    constant: dict[str, str],
    graded: Graded,
) -> dict[str, list[Any]]:
    rows: list[list[dict[str, Any]]] = [[] for _ in block]
    for model, strategy in arms:
        lm = ArmLM(arms, model, strategy, journal)
        requests = lm.requests([document.prompt for document in block])
        answers = lm.held(requests)
        answered = [row for row, request in enumerate(requests) if request.key in answers]
        graded.missing[model, strategy] += len(block) - len(answered)
        if not answered:
            continue
        kept = [answers[requests[row].key] for row in answered]
        replies = [answer.reply for answer in kept]
        scores = scores_of(task, metric, [block[row] for row in answered], [lm.answer_in(answer) for answer in kept])
        for row, answer, reply, score in zip(answered, kept, replies, scores, strict=True):
            outcome = _outcome(arms, requests[row], reread(answer, reply), reply, constant, graded)
            rows[row].append(outcome | {"score": score, "response": text_of(reply)})
    columns: defaultdict[str, list[Any]] = defaultdict(list)
    for document, outcomes in zip(block, rows, strict=True):
        for outcome in outcomes:
            query = {name: getattr(document, name) for name in ("task", "split", "query_id", "prompt", "gold")}
            for name, value in (query | outcome).items():
                columns[name].append(value)
    graded.rows += len(columns["score"])
    return columns


def _outcome(
    arms: Arms, request: Request, answer: Answer, reply: Any, constant: dict[str, str], graded: Graded
) -> dict[str, Any]:
    model, spoken, ending = arms.pool.models[request.model], spoken_of(reply), ending_of(reply)
    flag = flag_of(answer, request.message, spoken, model)
    if flag == "reported" and request.model in constant:
        flag = "constant"
    tokens, usd = priced(answer, flag, request.message, spoken, model)
    graded.flags[request.model, flag] += flag not in BELIEVED
    graded.usd += usd
    graded.endings[request.model, ending or ""] += ending in ENDINGS
    named = ending in (REFUSAL, CONTENT_FILTER, MODERATED, TOOL_CALLS)
    graded.endings[request.model, EMPTY] += not text_of(reply).strip() and not named
    if answer.billed_usd is not None:
        billed, ours = graded.bills.get(request.model, (0.0, 0.0))
        graded.bills[request.model] = billed + answer.billed_usd, ours + usd
    served = reply.get("model")
    return {
        "model": request.model,
        "strategy": request.strategy,
        "prompt_tokens": tokens.prompt,
        "completion_tokens": tokens.completion,
        "reasoning_tokens": tokens.reasoning,
        "cached_tokens": tokens.cached,
        "cache_write_tokens": tokens.written,
        "cost_usd": usd,
        "billed_usd": answer.billed_usd,
        "latency_s": answer.latency_s,
        "finish_reason": ending,
        "served_model": served if isinstance(served, str) else None,
        "usage": flag,
        "asked_at": answer.asked_at,
    }


def scores_of(task: Any, metric: Metric, documents: list[Document], answers: list[str]) -> list[float]:
    """lm-eval's score of each answer: instances, filters, metric."""
    instances = []
    for row, (document, answer) in enumerate(zip(documents, answers, strict=True)):
        instance = task.construct_requests(document.doc, document.prompt, metadata=(document.task, row, 1))
        instance.resps = [answer]
        instances.append(instance)
    task._instances = instances
    task.apply_filters()
    scores = []
    for document, instance in zip(documents, instances, strict=True):
        results = task.process_results(document.doc, [instance.filtered_resps[metric.filter]])
        score = results.get(metric.name)
        if not isinstance(score, (int, float)) or not 0 <= score <= 1:
            raise EndpointError(
                f"task {document.task}: {metric.name} of {document.query_id} is {score!r}, and a score is a number "
                "from 0 to 1: choose another --metric"
            )
        scores.append(float(score))
    return scores


def refuse_flagged(graded: Graded) -> None:
    """Raise RecalBenchError where token counts cannot be believed: models, numbers and what is wrong with them."""
    parts = [f"{model}: {count:,} ({USAGES[flag]})" for (model, flag), count in sorted(graded.flags.items()) if count]
    if parts:
        raise EndpointError(
            f"the token counts of some answers cannot be believed, so their cost is not known: {'; '.join(parts)}; "
            "correct the tokenizer or the prices in the pool file, or count such answers here: --allow-estimated-usage "
            "(the answers are kept, none is asked again)"
        )
