"""Reading a pool file. Errors are one line, and never repeat what is in the file: it could be a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from recal_bench.errors import EndpointError, near_miss
from recal_bench.folders import shipped
from recal_bench.pools.pool import Endpoint, Model, Pool, StrategyEntry
from recal_bench.pools.prices import Price
from recal_bench.pools.sampling import problem_with
from recal_bench.pools.strategies import STRATEGIES

_MOST_NODES = 100_000
"""Values of a file with its aliases written out: real pool files have hundreds."""


class _Loader(yaml.SafeLoader):
    """Safe, and strict: of a key that occurs twice the last would silently win.

    Aliases may stand for what has aliases in it: a small file can say more than the memory holds.
    """

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and _written_out(node, {}) > _MOST_NODES:
            raise yaml.constructor.ConstructorError(
                None, None, f"it says more than {_MOST_NODES:,} values with its aliases written out", node.start_mark
            )
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if len(keys) != len(set(keys)):
            raise yaml.constructor.ConstructorError(None, None, "a key occurs twice", node.start_mark)
        return super().construct_mapping(node, deep)


def _written_out(node: Any, known: dict[int, int]) -> int:
    """The number of nodes of a tree in which a node may hang in several places, each place counted."""
    if id(node) not in known:
        known[id(node)] = _MOST_NODES + 1  # what a node that hangs in itself would come to
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        known[id(node)] = 1 + sum(_written_out(part, known) for part in parts)
    return known[id(node)]


def read_pool(path: Path) -> Pool:
    """The pool of a YAML file; a bare name such as `embedded` means the shipped file.

    Raises EndpointError with all that is wrong with it in one line. What is in the file is not repeated there: it
    could be a key.
    """
    known = sorted(each.stem for each in shipped("pools").glob("*.yaml"))
    try:
        if path.name in (*known, *(f"{name}.yaml" for name in known)) and path.parent == Path() and not path.exists():
            path = shipped("pools") / f"{path.stem}.yaml"
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except FileNotFoundError as error:
        raise EndpointError(
            f"there is no pool file {path}: write one, or name a shipped one ({', '.join(known)})"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise EndpointError(f"the pool file {path} cannot be read: {reason}") from error
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = re.sub(r"'[^']*'|\"[^\"]*\"", "...", getattr(error, "problem", None) or "a value cannot be read")
        raise EndpointError(f"the pool file {path}{line} is not YAML: {problem}") from None
    if not isinstance(values, dict):
        raise EndpointError(f"the pool file {path} must hold `pool`, `endpoints` and `models`")
    try:
        pool = Pool.model_validate(values)
    except ValidationError as error:
        raise EndpointError(f"the pool file {path}: {'; '.join(map(_explained, error.errors()))}") from None
    _check_references(pool, path)
    return pool


def _explained(problem: Any) -> str:
    """One of pydantic's problems in plain words, with its place and without its value."""
    *parents, last = [str(part) if str(part).isprintable() else "..." for part in problem["loc"]] or ["the file"]
    where = ".".join([*parents, last])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        # A field's name could be a key that was put in the wrong place.
        shown = where if re.fullmatch(r"[A-Za-z_]{1,40}", last) else ".".join([*parents, "..."])
        hint = " there" if last in _FIELDS else near_miss(last, _FIELDS)
        return f"{shown} is not known{hint}"
    if problem["type"] == "string_type":
        return f"{where} must be text: put it in quotes"
    return f"{where}: {problem['msg'].removeprefix('Value error, ')}"


def _check_references(pool: Pool, path: Path) -> None:
    for name, model in pool.models.items():
        if model.endpoint not in pool.endpoints:
            hint = near_miss(model.endpoint, pool.endpoints)
            raise EndpointError(f"the pool file {path}: models.{name}.endpoint names none of the endpoints{hint}")
        _check_sampling(path, f"models.{name}", model.sampling)
        for strategy in model.strategies:
            if strategy not in pool.strategies:
                hint = near_miss(strategy, pool.strategies)
                raise EndpointError(f"the pool file {path}: models.{name}.strategies names one that is not there{hint}")
    for name, entry in pool.own_strategies.items():
        _check_sampling(path, f"strategies.{name}", entry.sampling)
        if entry.like is not None and entry.like not in STRATEGIES:
            raise EndpointError(
                f"the pool file {path}: strategies.{name}.like names none of {', '.join(STRATEGIES)}"
                f"{near_miss(entry.like, STRATEGIES)}"
            )
        for field in ("instruction", "max_tokens"):
            if entry.like is None and getattr(entry, field) is None:
                raise EndpointError(
                    f"the pool file {path}: strategies.{name}.{field} is missing: write it, or say with `like` which "
                    "strategy of the package has it"
                )
    for name in pool.own_strategies:
        if name in STRATEGIES:
            raise EndpointError(
                f"the pool file {path}: strategy {name} comes with the package: give yours another name"
            )


def _check_sampling(path: Path, where: str, sampling: Mapping[str, Any]) -> None:
    problem = problem_with(sampling)
    if problem:
        raise EndpointError(f"the pool file {path}: {where}.sampling{problem}")


_FIELDS = [
    field if field != "own_strategies" else "strategies"
    for each in (Pool, Endpoint, Model, Price, StrategyEntry)
    for field in each.model_fields
]
