"""What to do about a failure, in the words of the pool file."""

from __future__ import annotations

import json
import re
from typing import Any

from recal_bench.collection.failures import Failed, refused
from recal_bench.collection.replies import words_of
from recal_bench.outcomes import Arm
from recal_bench.pools.pool import Pool
from recal_bench.pools.sampling import sent
from recal_bench.wording import listed, show

_NOT_TAKEN = ("400", "422")


def refused_by_arm(where: str, error: Any, status: int, arm: Arm, pool: Pool, retry_after: str | None = None) -> Failed:
    """The failure that an error object stands for (see `failures.refused`), with what the pool file can do about it.

    A request refused for a parameter that its strategy sets ends the arm: every other one of it holds the same.
    """
    failure = refused(where, error, status, hints=_hints(arm.model, pool), retry_after=retry_after)
    if failure.kind not in _NOT_TAKEN or failure.moderated:
        return failure
    asked_by = pool.strategies.get(arm.strategy)  # none where advice is asked for
    own = list(sent(asked_by.sampling)) if asked_by else []
    said = f"{words_of(error)} {error.get('param') if isinstance(error, dict) else ''}"
    named = [name for name in own if re.search(rf"(?<![a-z_]){re.escape(name)}(?![a-z_])", said)]
    if named:
        failure.reach = "arm"
        failure.reason += (
            f"; arm {arm} sends {listed(named)}, which strategy {arm.strategy} sets: if {arm.model} does not "
            f"take it, name the strategies that it is asked by under `strategies` of models.{arm.model} in the "
            "pool file"
        )
    elif own:
        failure.reason += f"; arm {arm} sends {listed(own)}, which strategy {arm.strategy} sets"
    else:
        models = [name for name in sent(pool.models[arm.model].sampling) if re.search(rf"\b{name}\b", said)]
        if models:
            failure.reason += f"; it is in `sampling` of models.{arm.model} in the pool file"
    return failure


def misnamed(endpoint: str, model: str, served_model: str, served: Any) -> str:
    """That another model answered than was asked, and how the pool file allows it; `model` is its name there."""
    if served is None:
        return (
            f"{endpoint} does not say which model answered when {served_model} was asked: if it is the one you mean, "
            f"allow such replies with null in served_as of {model} in the pool file"
        )
    return (
        f"{endpoint} answered as {show(json.dumps(served), 80)} when {served_model} was asked: if that is the model "
        f"you mean, at the price you state, add it to served_as of {model} in the pool file"
    )


def _hints(model: str, pool: Pool) -> dict[int, str]:
    variable, served = pool.endpoint_of(model).api_key_env, pool.models[model].served_model
    return {
        401: f"; check {f'the variable {variable}' if variable else 'whether it needs a key (api_key_env)'}",
        404: f"; check base_url, and whether it serves {served}",
    }
