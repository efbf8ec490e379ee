"""What a language model is told of the pool and of the form of its replies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

from recal_bench.errors import SettingsError, near_miss
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool
from recal_bench.pools.prices import Rates
from recal_bench.pools.strategies import STRATEGIES

Form: TypeAlias = Literal["recal", "short", "router-r1"]
FORMS: tuple[Form, ...] = ("recal", "short", "router-r1")
CUE = "\nReply:"
"""Ends a prompt of the short form."""
_ENDS_BY_CALL = (
    "The user gets the reply to your last call: when it will do, write <answer> a short phrase </answer> and stop."
)
_ENDS_BY_ANSWER = (
    "When you know the answer, write <answer> a short phrase </answer> and stop: that is what the user gets."
)


class Descriptors(NamedTuple):
    """What is known of the arms; nothing is said of what is not in it.

    price      the rates of a model, USD per 1M tokens
    latency_s  the mean seconds a model takes to reply
    strategy   what a strategy means
    """

    price: Mapping[str, Rates]
    latency_s: Mapping[str, float]
    strategy: Mapping[str, str]


def describe(pool: Pool | None = None, latency_s: Mapping[str, float] | None = None) -> Descriptors:
    """What a pool file tells of models and strategies; without one, what the strategies of the package mean."""
    strategies = STRATEGIES if pool is None else pool.strategies
    return Descriptors(
        {} if pool is None else {name: model.price for name, model in pool.models.items()},
        latency_s or {},
        {name: each.description for name, each in strategies.items()},
    )


def packed(descriptors: Descriptors) -> dict[str, Any]:
    """What a prompt tells of descriptors, as JSON can hold it."""
    price = {name: {"input": each.input, "output": each.output} for name, each in descriptors.price.items()}
    return {"price": price, "latency_s": dict(descriptors.latency_s), "strategy": dict(descriptors.strategy)}


def unpacked(content: Mapping[str, Any]) -> Descriptors:
    """The inverse of `packed`. Raises ValueError (TypeError, KeyError) on anything else."""
    price = {name: Rates.model_validate(each) for name, each in content["price"].items()}
    return Descriptors(price, dict(content["latency_s"]), dict(content["strategy"]))


def system_prompt(
    arms: Sequence[Arm], descriptors: Descriptors, max_calls: int, form: Form = "recal", live: bool = False
) -> str:
    """What the policy is told before any question; empty in the short form, whose models learn it from training.

    With one call the called arm answers the user itself. With more the policy reads each reply, and the last one is
    what the user gets; where the arms are `live`, the policy's own answer.

    Raises SettingsError on a form that is not known, and on a model that Router-R1's form cannot name.
    """
    if form not in FORMS:
        raise SettingsError(f"no form is called {form}{near_miss(form, FORMS)}: there are {', '.join(FORMS)}")
    if form == "short":
        return ""
    models = list(dict.fromkeys(arm.model for arm in arms))
    unfit = [model for model in models if ":" in model and form == "router-r1"]
    if unfit:
        raise SettingsError(f"Router-R1's form cannot name the model {unfit[0]}: rename it, or take the form recal")
    call = {
        "recal": "<route> model | strategy : question </route>",
        "router-r1": "<search> model:question </search>",
    }[form]
    once = [
        "Choose the model that answers the question. First think inside <think> and </think>.",
        f"Then ask it: write {call} with names as listed below, and stop.",
        "Its reply goes to the user as the answer, and you do not see it. What the model costs counts against you.",
    ]
    several = [
        "Get the question answered. First think inside <think> and </think>.",
        f"Then ask a model: write {call} with names as listed below, and stop.",
        "Its reply comes back inside <information> and </information>, which you never write. Then think again.",
        f"You may ask {max_calls} times at most, and what the models cost counts against you.",
        _ENDS_BY_ANSWER if live else _ENDS_BY_CALL,
    ]
    lines = [
        *(once if max_calls == 1 else several),
        "",
        "Models:",
        *(_line(model, _facts(model, descriptors)) for model in models),
    ]
    if form == "recal":
        strategies = list(dict.fromkeys(arm.strategy for arm in arms))
        lines += ["", "Strategies:", *(_line(each, descriptors.strategy.get(each)) for each in strategies)]
        if len(arms) < len(models) * len(strategies):
            lines += ["", "Only these go together:", *(_line(f"{arm.model} | {arm.strategy}", None) for arm in arms)]
    return "\n".join(lines)


def question_prompt(question: str, short: bool = False) -> str:
    """The question as the policy gets it."""
    return f"{question.strip()}{CUE}" if short else f"Question: {question.strip()}"


def _facts(model: str, descriptors: Descriptors) -> str:
    facts = []
    price, latency_s = descriptors.price.get(model), descriptors.latency_s.get(model)
    if price is not None and price.input == price.output:
        facts.append(f"USD {price.input:g} per 1M tokens")
    elif price is not None:
        facts.append(f"USD {price.input:g} per 1M tokens read, {price.output:g} written")
    if latency_s is not None:
        facts.append(f"about {latency_s:.2g} s a reply")
    return ", ".join(facts)


def _line(name: str, what: str | None) -> str:
    return f"- {name}: {what}" if what else f"- {name}"
