"""What a router class may say of itself besides its methods: the flags, with their types and defaults."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from recal_bench.encoders import reads_features
from recal_bench.errors import PluginError

METHODS = ("fit", "fit_seeds", "route", "predict", "utilities", "adapt", "save", "load")
_CLOSE = 0.85


@dataclass(frozen=True)
class Flags:
    """Class attributes of a router (`ClassVar`, or a property), read by the harness.

    deterministic     the same result for every seed: it is run once. The one flag without a default
    accelerated       trains on the device that `--device` names; others run on the CPU
    compares_arms     learns nothing where no query has the outcomes of two arms: refused on a log of single choices
    partial_feedback  learns from the outcome of one arm a query, see `Feedback`
    reads_responses   is shown `outcomes.response_QA`, and what `calls.ask` answers has its text
    reads_columns     numeric columns of the outcomes file that it is shown as `outcomes.column_QA[name]`
    reads_features    is shown what the platform knows of a query besides its text, as `queries.features`; set of itself
                      where the setting `encoder` names the encoder `features`
    made_of           plug-ins of other kinds that its results depend on: a change of their code makes it run again
    sweeps            `route` heeds `calls.objective.alpha`, whatever alpha the router was fitted at
    space             values of each setting among which `recal-bench tune` looks
    """

    deterministic: bool
    accelerated: bool = False
    compares_arms: bool = False
    partial_feedback: bool = False
    reads_responses: bool = False
    reads_columns: tuple[str, ...] = ()
    reads_features: bool = False
    made_of: tuple[Any, ...] = ()
    sweeps: bool = False
    space: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


NAMES = tuple(each.name for each in fields(Flags))


def flags_of(router: Any) -> Flags:
    """The flags of a router, or of its class. Raises PluginError where it lacks `deterministic`."""
    given = {name: getattr(router, name) for name in NAMES if hasattr(router, name)}
    if "deterministic" not in given:
        cls = router if isinstance(router, type) else type(router)
        raise PluginError(f"router class {cls.__name__} lacks deterministic: say True or False in the class")
    encoder = getattr(router, "encoder", None)
    if isinstance(encoder, str) and reads_features(encoder):
        given["reads_features"] = True
    return Flags(**given)


def check_class(cls: type[Any]) -> None:
    """Raises PluginError on a flag of another type, and on a name that looks like a mistyped flag or method."""
    settings = {each.name for each in fields(cls)} if is_dataclass(cls) else set()
    for name in [name for name in vars(cls) if not name.startswith("_") and not name.isupper()]:
        value = vars(cls)[name]
        known = METHODS if callable(value) or isinstance(value, classmethod | staticmethod) else NAMES
        close = difflib.get_close_matches(name, known, n=1, cutoff=_CLOSE)
        is_setting = name in settings and name not in NAMES
        if name not in (*METHODS, *NAMES) and not is_setting and close:
            raise PluginError(f"router class {cls.__name__} has {name}, which nothing reads (did you mean {close[0]}?)")
    for each in fields(Flags):
        value = vars(cls).get(each.name)
        if value is None or isinstance(value, property):
            continue
        if each.name == "space":
            fits = isinstance(value, Mapping) and all(isinstance(values, tuple) for values in value.values())
        elif each.name == "reads_columns":
            fits = isinstance(value, tuple) and all(isinstance(name, str) for name in value)
        elif each.name == "made_of":
            fits = isinstance(value, tuple)
        else:
            fits = isinstance(value, bool)
        if not fits:
            raise PluginError(f"router class {cls.__name__}: {each.name} must be {each.type}, not {value!r}")
