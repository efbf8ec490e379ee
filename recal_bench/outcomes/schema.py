"""The columns of an outcomes file: names, types, meaning, and what reads them. Readers and writers all ask here."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple


class Reader(Enum):
    """What of this package looks at a column. `value` says it in the documentation."""

    RUN = "every run"
    ROUTERS = "routers that ask for it"
    PEOPLE = "no router; kept for you"


class Field(NamedTuple):
    """A column. `type` is arrow's name of it. An unknown value is null; where names are null a file is refused."""

    name: str
    type: str
    required: bool
    reader: Reader
    meaning: str


FIELDS = (
    Field("task", "string", False, Reader.RUN, "the set of queries that a query belongs to, e.g. `nq`"),
    Field("query_id", "string", True, Reader.RUN, "names the query within its task and split"),
    Field("prompt", "string", True, Reader.RUN, "the text of the query: all that a router sees of it"),
    Field("gold", "string", False, Reader.PEOPLE, "the accepted answers, as a JSON list of texts"),
    Field("model", "string", True, Reader.RUN, "the model that was asked"),
    Field("strategy", "string", False, Reader.RUN, "how it was asked, e.g. `cot`; model and strategy are the arm"),
    Field("score", "float64", True, Reader.RUN, "how good the answer was, from 0 to 1; null: no outcome"),
    Field("prompt_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt, cached ones included"),
    Field("completion_tokens", "int64", False, Reader.ROUTERS, "tokens of the reply, reasoning included"),
    Field("reasoning_tokens", "int64", False, Reader.ROUTERS, "those of them that were spent on reasoning"),
    Field("cached_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt that the endpoint had in its cache"),
    Field("cache_write_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt that were written to its cache"),
    Field("cost_usd", "float64", False, Reader.RUN, "what the call cost, in USD"),
    Field("billed_usd", "float64", False, Reader.PEOPLE, "what the endpoint itself says that the call cost, in USD"),
    Field("latency_s", "float64", False, Reader.RUN, "how long the reply took, in seconds"),
    Field("response", "string", False, Reader.ROUTERS, "the text of the reply"),
    Field("split", "string", False, Reader.RUN, "`train`, `validation`, `test`, or another name"),
    Field("sample", "int64", False, Reader.RUN, "numbers repeated draws of one outcome; they are averaged"),
    Field("propensity", "float64", False, Reader.RUN, "in a log of single choices: the probability of the arm"),
    Field("finish_reason", "string", False, Reader.PEOPLE, "why the reply ended, as the endpoint says, e.g. `stop`"),
    Field("served_model", "string", False, Reader.PEOPLE, "what the endpoint calls the model that answered"),
    Field("usage", "string", False, Reader.PEOPLE, "where the token counts come from, e.g. `reported`"),
    Field("asked_at", "string", False, Reader.PEOPLE, "when the request was sent, in ISO 8601"),
)
"""In the order in which the columns are written."""
NAMES = tuple(field.name for field in FIELDS)
REQUIRED = tuple(field.name for field in FIELDS if field.required)
READ_BY_RUNS = tuple(field.name for field in FIELDS if field.reader is Reader.RUN)
NUMBERS = frozenset(field.name for field in FIELDS if field.type != "string")
LATENCY = "latency_s"
TYPES = {field.name: field.type for field in FIELDS}
FEATURE_PREFIX = "feature_"
"""Columns so called hold what is known of a query besides its text when it is routed (`feature_tenant`)."""
FEATURES = "feature_*"
"""All of them, in a record."""
WITHOUT = {"task": "all", "strategy": "default", "split": ""}
"""What every row has in a column that names it and that the file does not have."""
COMMON_NAMES = {
    "task": ("category", "dataset", "eval_name", "benchmark", "subject"),
    "query_id": ("id", "qid", "question_id", "request_id", "sample_id", "prompt_id"),
    "prompt": ("question", "query", "input", "instruction", "user_message"),
    "model": ("model_name", "llm", "model_id", "engine"),
    "strategy": ("prompting", "prompt_strategy", "reasoning", "method"),
    "score": ("rating", "reward", "judge_score", "accuracy", "correct", "is_correct", "performance", "quality"),
    "prompt_tokens": ("input_tokens", "tokens_in"),
    "completion_tokens": ("output_tokens", "tokens_out"),
    "cost_usd": ("cost", "price", "usd", "total_cost", "inference_cost", "cost_dollars", "cost_in_usd"),
    "latency_s": ("latency", "latency_ms", "response_time", "duration"),
    "response": ("answer", "output", "model_response", "generated_answer", "completion"),
    "split": ("subset", "fold", "partition"),
    "propensity": ("propensities", "probability", "prob", "action_probability"),
}
"""What other logs call such columns."""


def plain(name: str) -> str:
    """A column's name without what is easily mistyped: capitals, blanks at the ends, other signs than `_`."""
    return re.sub(r"[^0-9a-z]+", "_", name.strip().casefold()).strip("_")


def misspelt(names: Sequence[str]) -> dict[str, str]:
    """The columns that are one of `FIELDS` but for capitals, blanks and signs, where that one is not there."""
    return {name: plain(name) for name in names if plain(name) in NAMES and plain(name) not in names}


def resembling(names: Sequence[str]) -> dict[str, str]:
    """The columns that look as if they were one of `FIELDS` that the file lacks, with that one's name."""
    absent = [name for name in NAMES if name not in names]
    found: dict[str, str] = {}
    for name in names:
        if name in NAMES:
            continue
        usual = [field for field in absent if plain(name) in COMMON_NAMES.get(field, ())]
        close = usual or difflib.get_close_matches(plain(name), absent, n=1, cutoff=0.85)
        if close:
            found[name] = close[0]
    return found
