"""A trained router as a routing plug-in of LiteLLM: `Router(..., plugins=[RunPlugin(run)])`.

LiteLLM is not imported: its protocol asks for `async def run(context)`, which narrows `context.candidate_models`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from recal_bench.api import load_router
from recal_bench.errors import SettingsError, near_miss
from recal_bench.experiments.records import Run
from recal_bench.gateway.chat import content_text
from recal_bench.outcomes import Arm
from recal_bench.wording import some_of

SIGNAL = "recal_bench"
"""The key of `context.signals` that says what was chosen; LiteLLM keeps it as `routing_plugin_signals` in metadata."""
_LISTED = 6


class Context(Protocol):
    """What of LiteLLM's `RoutingContext` is used."""

    structured_messages: list[dict[str, Any]]
    candidate_models: list[str]
    signals: dict[str, Any]


_Context = TypeVar("_Context", bound=Context)


class RunPlugin:
    """Leaves of a model group's deployments those of the model that a run's router likes best for the prompt.

    The prompt is the last user message. `models` maps LiteLLM's model (`litellm_params.model`) to the arm that it
    stands for (`model|strategy`). Without it a deployment stands for the run's arm of that model, with or without the
    provider in front (`openai/small` or `small`). LiteLLM sends what the client wrote: a strategy's instruction is not
    added. A group none of whose models the run knows, and a request without text, are left as they are, and the signal
    says so.

    Raises SettingsError on an arm that the run does not have, and where a model has several arms and `models` does not
    say which is meant; RunError and PluginError as `load_router` does.
    """

    def __init__(self, run: Run | str | Path, models: Mapping[str, str] | None = None) -> None:
        self._router = load_router(run)
        self._turn = threading.Lock()
        self._arm_of = _arms_by_name(self._router.arms) if models is None else _arms_as_given(models, self._router.arms)

    async def run(self, context: _Context) -> _Context:
        """Called by LiteLLM for each request, before it picks a deployment."""
        arm_of = {model: arm for model in context.candidate_models if (arm := self._arm(model)) is not None}
        prompt = _prompt(context.structured_messages)
        if not arm_of or not prompt.strip():
            why = (
                "no deployment of the group is an arm of the run" if prompt.strip() else "there is no text to route by"
            )
            context.signals[SIGNAL] = {"arm": None, "why": why}
            return context
        for arm in await asyncio.to_thread(self._ranked, prompt):
            left = [model for model in context.candidate_models if arm_of.get(model) == arm]
            if left:
                context.candidate_models = left
                context.signals[SIGNAL] = {"arm": str(arm), "run": self._router.run.folder.name}
                break
        return context

    def _arm(self, model: str) -> Arm | None:
        return self._arm_of.get(model) or self._arm_of.get(model.partition("/")[2])

    def _ranked(self, prompt: str) -> list[Arm]:
        with self._turn:
            arm_QA = self._router.rank([prompt]).arm_QA
        return [self._router.arms[arm] for arm in arm_QA[0]]


def _prompt(messages: Sequence[Mapping[str, Any]]) -> str:
    said = [message for message in messages if message.get("role") == "user"]
    return content_text(said[-1].get("content")) if said else ""


def _arms_by_name(arms: Sequence[Arm]) -> dict[str, Arm]:
    found: dict[str, Arm] = {}
    for arm in arms:
        if arm.model in found:
            raise SettingsError(
                f"the run has several arms of {arm.model}: say which one each deployment stands for, as in "
                f'models={{"openai/{arm.model}": "{arm}"}}'
            )
        found[arm.model] = arm
    return found


def _arms_as_given(models: Mapping[str, str], arms: Sequence[Arm]) -> dict[str, Arm]:
    known = {str(arm): arm for arm in arms}
    for name in models.values():
        if name not in known:
            raise SettingsError(
                f"the run has no arm {name}{near_miss(name, known)}: it has {some_of([*known], _LISTED)}"
            )
    return {model: known[name] for model, name in models.items()}
