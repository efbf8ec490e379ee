"""A collection from end to end: what is to be asked, what it will cost, asking it, and writing the outcomes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from itertools import chain, islice
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench import __version__
from recal_bench.collection.asking import BUDGET, Asker, Progress, Tell
from recal_bench.collection.backends import BACKENDS, PREFIX, BackendAsker
from recal_bench.collection.endpoint import check_endpoints
from recal_bench.collection.grading import Graded, choose_metric, outcome_blocks, refuse_flagged
from recal_bench.collection.journal import Journal
from recal_bench.collection.questions import SPLITS, Questions, load_questions
from recal_bench.collection.requests import Arms, Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import counter
from recal_bench.errors import EndpointError, near_miss
from recal_bench.outcomes.writer import read_metadata, write_outcomes
from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Pool

OPENAI = "openai"
_MADE_BY = "recal-bench collect"
_LOOK_UP = 500


@dataclass(frozen=True)
class Wanted:
    """What a collection is to hold, as the command line says it. Empty names mean all."""

    pool: Path
    out: Path
    tasks: tuple[str, ...]
    models: tuple[str, ...] = ()
    strategies: tuple[str, ...] = ()
    splits: tuple[str, ...] = ("test",)
    limits: Mapping[str, int] = field(default_factory=dict)
    questions: str | None = None
    world_seed: int = 0
    include_paths: tuple[Path, ...] = ()
    backend: str = OPENAI
    metric: str | None = None


class ArmCost(NamedTuple):
    """What one arm is still to be asked: requests, their prompt tokens as counted here, and USD.

    `expected_usd` is null before the arm has answers to go by; `most_usd` has every reply as long as it may be.
    """

    model: str
    strategy: str
    requests: int
    prompt_tokens: int
    expected_usd: float | None
    most_usd: float


class Collection:
    """A checked plan: nothing has been asked, but everything that can be wrong beforehand has been looked at.

    Raises EndpointError on an unknown name, an unset key, a task without data, an outcomes file of another origin.
    """

    def __init__(self, wanted: Wanted) -> None:
        self.wanted = wanted
        if wanted.backend not in (OPENAI, *(PREFIX + each for each in BACKENDS)):
            known = [OPENAI, *(PREFIX + each for each in BACKENDS)]
            raise EndpointError(
                f"no backend is called {wanted.backend}{near_miss(wanted.backend, known)}: there are {', '.join(known)}"
            )
        for split in wanted.splits or ("none",):
            if split not in SPLITS:
                hint = near_miss(split, SPLITS)
                raise EndpointError(f"--splits: there is no split {split}{hint}: name some of {', '.join(SPLITS)}")
        _check_out(wanted.out)
        self.pool: Pool = read_pool(wanted.pool)
        models = self.pool.select_models(wanted.models)
        self.arms = Arms(self.pool, models, self.pool.select_strategies(wanted.strategies), wanted.backend)
        if wanted.backend == OPENAI:
            check_endpoints(self.pool, self.arms.models)
        for name in models:
            counter(models[name].tokenizer)
        for name in models:
            if not any(model == name for model, _ in self.arms):
                raise EndpointError(
                    f"{name} is asked by none of the strategies {', '.join(self.arms.strategies)}: its entry in the "
                    f"pool file names {', '.join(models[name].strategies)}; choose with --strategies or --models"
                )
        for model, strategy in self.arms:
            self._check_length(model, strategy)
        self.questions: list[Questions] = load_questions(
            wanted.tasks, wanted.questions or self.pool.questions, wanted.splits, wanted.limits,
            wanted.include_paths, wanted.world_seed,
        )  # fmt: skip
        for each in self.questions:
            choose_metric(each.task, each.name, wanted.metric)

    @property
    def documents(self) -> int:
        return sum(each.count(split) for each in self.questions for split in each.splits)

    @property
    def left(self) -> Counter[tuple[str, str, str]]:
        """How many requests there are, by endpoint, model and strategy."""
        documents = self.documents
        return Counter({(self.pool.models[model].endpoint, model, each): documents for model, each in self.arms})

    def requests(self, models: tuple[str, ...]) -> Iterator[Request]:
        """All requests to some models, document by document."""
        for each in self.questions:
            for split in each.splits:
                for document in each.documents(split):
                    for model, strategy in self.arms:
                        if model in models:
                            yield self.arms.request(model, strategy, document.prompt)

    def served_by(self, endpoint: str) -> tuple[str, ...]:
        """The models of this collection that an endpoint serves."""
        return tuple(model for model in self.arms.models if self.pool.models[model].endpoint == endpoint)

    def costs(self, journal: Journal, estimates: bool) -> list[ArmCost]:
        """What is still to be asked, and what it will cost, by arm. Asks nothing."""
        spending = Spending(self.pool, journal)
        spending.refresh()
        sums: dict[tuple[str, str], list[float]] = {arm: [0, 0, 0.0] for arm in self.arms}
        requests = self.requests(self.arms.models)
        while block := list(islice(requests, _LOOK_UP)):
            answered = journal.answered([request.key for request in block], estimates)
            for request in block:
                if request.key not in answered:
                    count = counter(self.pool.models[request.model].tokenizer).count
                    of_arm = sums[request.model, request.strategy]
                    of_arm[0] += 1
                    of_arm[1] += count(request.message)
                    of_arm[2] += spending.most_usd(request)
        costs = []
        for arm, (count_left, prompt_tokens, most_usd) in sums.items():
            mean = spending.mean_usd(arm)
            expected = None if mean is None else mean * count_left
            costs.append(ArmCost(*arm, int(count_left), int(prompt_tokens), expected, most_usd))
        return costs

    def metadata(self) -> dict[str, Any]:
        """Where the outcomes come from, for the file: prices with their dates and hash, arms, tasks, versions."""
        models = {name: self.pool.models[name] for name in self.arms.models}
        return {
            "made_by": _MADE_BY,
            "pool": self.pool.pool,
            "simulated": self.pool.simulated,
            "price_book": self.pool.price_book,
            "prices": {name: model.price.model_dump(mode="json") for name, model in models.items()},
            "served_models": {name: model.served_model for name, model in models.items()},
            "strategies": {name: self.pool.strategies[name].instruction for name in self.arms.strategies},
            **({"sampling": sampling} if (sampling := self._sampling()) else {}),
            "tasks": {each.name: {split: each.count(split) for split in each.splits} for each in self.questions},
            "backend": self.wanted.backend,
            "versions": {"recal-bench": __version__, "lm-eval": metadata.version("lm-eval")},
        }

    def _sampling(self) -> dict[str, dict[str, Any]]:
        """What the strategies send beside their instruction; those that send nothing are not in it."""
        found = {name: dict(self.pool.strategies[name].sampling) for name in self.arms.strategies}
        return {name: sampling for name, sampling in found.items() if sampling}

    def _check_length(self, model: str, strategy: str) -> None:
        entry = self.pool.models[model]
        _, most = entry.limit(self.pool.strategies[strategy])
        if most >= entry.context_length:
            raise EndpointError(
                f"{model} is to answer {strategy} in up to {most:,} tokens, but its context_length is "
                f"{entry.context_length:,}: set a smaller max_tokens in its sampling"
            )


class Result(NamedTuple):
    """What a collection did. `unsure` counts requests that may have been billed without an answer, by reason.

    `missing` has the models of which outcomes are missing, with their number and why.
    """

    progress: Progress
    graded: Graded
    unsure: dict[str, int]
    unsure_usd: float
    missing: list[tuple[str, int, str]]


def collect(
    collection: Collection, journal: Journal, *, estimates: bool = False, max_usd: float | None = None, tell: Tell
) -> Result:
    """Ask what the journal does not hold, then write the outcomes of all that it holds.

    Whatever ends a collection or one of its models, the outcomes so far are written. Raises EndpointError where there
    is none, and where token counts cannot be believed without `estimates`.
    """
    progress = Progress(collection.documents * len(collection.arms), collection.left)
    spending = Spending(collection.pool, journal, max_usd)
    if collection.wanted.backend == OPENAI:
        endpoints = {name for name, _, _ in progress.left}
        requests = {name: partial(collection.requests, collection.served_by(name)) for name in sorted(endpoints)}
        Asker(collection.pool, journal, progress, spending, estimates, tell).ask(requests)
    else:
        if max_usd is not None:
            raise EndpointError("--max-usd is for endpoints: models that run here are not stopped by what they cost")
        backend = collection.wanted.backend.removeprefix(PREFIX)

        def tell_with_cost() -> None:
            spending.refresh()
            tell(progress, spending)

        for name in collection.arms.models:
            asker = BackendAsker(backend, name, collection.pool.models[name], journal, progress)
            asker.ask(collection.requests((name,)), tell_with_cost)
    graded = Graded()
    blocks = outcome_blocks(collection.questions, collection.arms, journal, collection.wanted.metric, graded)
    first = next(blocks, None)
    missing = _missing(graded, progress, journal)
    if first is None:
        why = "; ".join([why_stopped(progress, max_usd), *dict.fromkeys(reason for _, _, reason in missing if reason)])
        raise EndpointError(f"{collection.wanted.out} is not written: there is no outcome to write ({why})")
    write_outcomes(_believed(chain([first], blocks), graded, estimates), collection.wanted.out, collection.metadata())
    return Result(progress, graded, journal.unsure_counts(), journal.unsure_usd(), _missing(graded, progress, journal))


def why_stopped(progress: Progress, max_usd: float | None) -> str:
    """Why a collection does not hold all that it was to hold."""
    if progress.stopped == BUDGET:
        return f"stopped before --max-usd {max_usd:g}"
    if progress.stopped:
        return "interrupted"
    if progress.stopped_models:
        return f"gave up on {', '.join(progress.stopped_models)}"
    return "some requests got no answer"


def _missing(graded: Graded, progress: Progress, journal: Journal) -> list[tuple[str, int, str]]:
    """Models, numbers of outcomes that are missing, and why, as far as that is known."""
    counts: Counter[str] = Counter()
    for (model, _), count in graded.missing.items():
        counts[model] += count
    reasons = {model: reason for model, _, reason in journal.refusals()} | progress.stopped_models
    return [(model, count, reasons.get(model, "")) for model, count in counts.items() if count]


def _believed(blocks: Iterator[Any], graded: Graded, estimates: bool) -> Iterator[Any]:
    """The blocks; an error at their end, and so no file, where their token counts cannot be believed."""
    yield from blocks
    if not estimates:
        refuse_flagged(graded)


def _check_out(out: Path) -> None:
    """An outcomes file of another origin is not written over, and a place that cannot be written is found at once."""
    if out.suffix != ".parquet":
        raise EndpointError(f"--out {out}: outcomes are written as parquet, name the file .parquet")
    if out.exists() and read_metadata(out).get("made_by") != _MADE_BY:
        raise EndpointError(f"--out {out} is there and was not made by `{_MADE_BY}`: choose another name")
