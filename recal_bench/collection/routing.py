"""Which model a router behind an OpenAI-compatible API chooses: the `model` of its replies.

It is asked through the collector's client: every reply is in a journal as soon as it is there, and a budget is kept.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from recal_bench.collection.asking import BUDGET, Asker, Progress
from recal_bench.collection.endpoint import check_endpoints
from recal_bench.collection.journal import Journal
from recal_bench.collection.replies import spoken_of
from recal_bench.collection.requests import Request
from recal_bench.collection.spending import Spending
from recal_bench.collection.usage import flag_of, priced
from recal_bench.errors import EndpointError, near_miss
from recal_bench.pools.files import read_pool
from recal_bench.pools.pool import Endpoint, Model, Pool
from recal_bench.pools.prices import Price
from recal_bench.wording import counted, some_of

_STRATEGY = "route"
_MOST_TOKENS = 16
"""Of an answer that nobody reads."""
_CONTEXT = 1_000_000
"""What a router can take is not known: it says itself what is too long."""
_NOT_AN_ARM = "wrong model"


class Asked(NamedTuple):
    """A router to ask: a pool with it as its one model, and whether its price is known."""

    name: str
    pool: Pool
    is_priced: bool

    @property
    def model(self) -> Model:
        return self.pool.models[self.name]


class Routed(NamedTuple):
    """What the router chose for a prompt, and what that cost in USD; None where its price is not known."""

    model: str
    cost: float | None


def router_at(name: str, where: str, choices: Sequence[str]) -> Asked:
    """The router that is called `name`, at a URL (its price is then unknown, and no key is sent) or in a pool file.

    `choices` are the names that its replies may give. Raises EndpointError on an address or a file that cannot be used.
    """
    if "://" in where:
        try:
            endpoint = Endpoint(base_url=where, api_key_env=None)
        except ValueError:
            raise EndpointError(
                f"--endpoint {name}: give an address such as https://host/v1, with no user, password or query in it; "
                "a key belongs in the environment, by a pool file"
            ) from None
        free = Price(input=0, output=0, date=date.min)
        model = Model(endpoint=name, served_model=name, price=free, context_length=_CONTEXT)
        asked = Pool(pool=name, endpoints={name: endpoint}, models={name: model})
    else:
        asked = read_pool(Path(where))
        if name not in asked.models:
            raise EndpointError(
                f"--endpoint {name}: {where} has no model {name}{near_miss(name, asked.models)}: give the router that "
                "name there"
            )
        model = asked.models[name]
        endpoint = asked.endpoint_of(name)
    sampling = {"max_tokens": _MOST_TOKENS, **model.sampling}
    update = {"served_as": (*model.served_as, *choices), "sampling": sampling}
    pool = asked.model_copy(
        update={"models": {name: model.model_copy(update=update)}, "endpoints": {model.endpoint: endpoint}}
    )
    check_endpoints(pool, (name,))
    return Asked(name, pool, "://" not in where)


def ask_router(asked: Asked, prompts: Sequence[str], journal: Path, max_usd: float | None = None) -> list[Routed]:
    """What the router chooses for each prompt. What the journal holds is not asked again.

    Raises EndpointError where a budget cannot be kept, where a prompt gets no answer (the same call goes on), and where
    a reply names none of the choices.
    """
    if max_usd is not None and not asked.is_priced:
        raise EndpointError(f"--max-usd: what {asked.name} costs is not known by its address: give a pool file")
    requests = {prompt: _request(asked, prompt) for prompt in prompts}
    opened = Journal(journal)
    try:
        line = asked.model.endpoint
        progress = Progress(len(requests), Counter({(line, asked.name, _STRATEGY): len(requests)}))
        asker = Asker(
            *(asked.pool, opened, progress, Spending(asked.pool, opened, max_usd)),
            estimates=not asked.is_priced,
            tell=lambda progress, spending: None,
        )
        asker.ask({line: lambda: iter(requests.values())})
        answers = opened.answers([request.key for request in requests.values()])
        absent = [prompt for prompt, request in requests.items() if request.key not in answers]
        if absent:
            reasons = dict.fromkeys([*progress.stopped_models.values(), *(why for _, _, why in opened.refusals())])
            raise EndpointError(_no_answer(asked, len(absent), len(requests), progress, max_usd, list(reasons)))
        found = {}
        for prompt, request in requests.items():
            answer = answers[request.key]
            flag, cost = flag_of(answer, prompt, spoken_of(answer.reply), asked.model), None
            if asked.is_priced:
                cost = priced(answer, flag, prompt, spoken_of(answer.reply), asked.model)[1]
            found[prompt] = Routed(str(answer.reply.get("model")), cost)
    finally:
        opened.close()
    return [found[prompt] for prompt in prompts]


def _request(asked: Asked, prompt: str) -> Request:
    """Another address is another router: it is asked anew."""
    model = asked.model
    field = "max_completion_tokens" if "max_completion_tokens" in model.sampling else "max_tokens"
    parts = [_STRATEGY, asked.pool.endpoint_of(asked.name).base_url, model.served_model, model.sampling]
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode() + b"\0")
    digest.update(prompt.encode("utf-8", "surrogatepass"))
    return Request(digest.digest(), asked.name, _STRATEGY, prompt, dict(model.sampling), int(model.sampling[field]))


def _no_answer(
    asked: Asked, absent: int, total: int, progress: Progress, max_usd: float | None, reasons: list[str]
) -> str:
    where = asked.pool.endpoint_of(asked.name).base_url
    what = f"--endpoint {asked.name}: {absent:,} of {counted(total, 'prompt')} have no answer of {where}"
    if progress.failures[_NOT_AN_ARM]:
        # The client's own advice is for a collection, in which one model is asked.
        said = [reason.partition(": if ")[0] for reason in reasons]
        names = [name for name in asked.model.served_as if name is not None]
        known = some_of(names, 10)
        return f"{what} that names an arm ({some_of(said, 2)}): it must name a model or an arm, one of {known}"
    if progress.stopped == BUDGET:
        return f"{what}: stopped before --max-usd {max_usd:g}; the same command goes on with a larger one"
    return f"{what} ({'; '.join(reasons[:2]) or 'interrupted'}): the same command goes on"
