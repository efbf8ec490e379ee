"""The columns of an outcomes file: names, types, meaning, and what reads them. Readers and writers all ask here."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class Reader(Enum):
    """What of this package looks at a column. `value` says it in the documentation."""

    RUN = "every run"
    ROUTERS = "routers that ask for it"
    PEOPLE = "no router; kept for you"


class Field(NamedTuple):
    """A column. `type` is arrow's name of it. An unknown value is null, which a required column does not allow."""

    name: str
    type: str
    required: bool
    reader: Reader
    meaning: str


FIELDS = (
    Field("task", "string", True, Reader.RUN, "the set of queries that a query belongs to, e.g. `nq`"),
    Field("query_id", "string", True, Reader.RUN, "names the query within its task and split"),
    Field("prompt", "string", True, Reader.RUN, "the text of the query: all that a router sees of it"),
    Field("gold", "string", False, Reader.PEOPLE, "the accepted answers, as a JSON list of texts"),
    Field("model", "string", True, Reader.RUN, "the model that was asked"),
    Field("strategy", "string", True, Reader.RUN, "how it was asked, e.g. `cot`; model and strategy are the arm"),
    Field("score", "float64", True, Reader.RUN, "how good the answer was, from 0 to 1"),
    Field("prompt_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt, cached ones included"),
    Field("completion_tokens", "int64", False, Reader.ROUTERS, "tokens of the reply, reasoning included"),
    Field("reasoning_tokens", "int64", False, Reader.ROUTERS, "those of them that were spent on reasoning"),
    Field("cached_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt that the endpoint had in its cache"),
    Field("cache_write_tokens", "int64", False, Reader.ROUTERS, "tokens of the prompt that were written to its cache"),
    Field("cost_usd", "float64", False, Reader.RUN, "what the call cost, in USD"),
    Field("billed_usd", "float64", False, Reader.PEOPLE, "what the endpoint itself says that the call cost, in USD"),
    Field("latency_s", "float64", False, Reader.ROUTERS, "how long the reply took, in seconds"),
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
TYPES = {field.name: field.type for field in FIELDS}
