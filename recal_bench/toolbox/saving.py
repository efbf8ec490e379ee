"""What a router has learnt, kept in a folder: arrays, numbers, texts, arms and its text encoder. Nothing is pickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from recal_bench.encoders import load_encoder
from recal_bench.encoders.cache import UNREADABLE, read
from recal_bench.errors import RunError
from recal_bench.outcomes import Arm

ENCODER = "text_encoder"
"""The attribute that holds a text encoder, which has a file of its own."""
_FILE = "learnt.npz"
_TREE = "tree"


class Saved:
    """Gives a router `save` and `load`: `LEARNT` names the attributes that `fit` sets and `load` brings back.

    Each may be an array, a number, a string, None, an arm, or a list, tuple or dict of these. `text_encoder` is the
    encoder.
    """

    LEARNT: ClassVar[tuple[str, ...]]

    def save(self, folder: Path) -> None:
        arrays: dict[str, Any] = {}
        tree = {name: _packed(getattr(self, name), name, arrays) for name in self.LEARNT if name != ENCODER}
        arrays[_TREE] = np.frombuffer(json.dumps(tree).encode(), dtype=np.uint8)
        np.savez(folder / _FILE, **arrays)
        if ENCODER in self.LEARNT:
            getattr(self, ENCODER).save(folder)

    def load(self, folder: Path) -> None:
        """Raises RunError where the folder holds no such file, or a damaged one."""
        path = folder / _FILE
        try:
            arrays = read(path)
            tree = json.loads(arrays[_TREE].tobytes())
            learnt = {name: _unpacked(tree[name], arrays) for name in self.LEARNT if name != ENCODER}
        except UNREADABLE as error:
            raise RunError(f"{path} does not hold a saved router: run the router again with --fresh") from error
        for name, value in learnt.items():
            setattr(self, name, value)
        if ENCODER in self.LEARNT:
            setattr(self, ENCODER, load_encoder(folder))


def _packed(value: Any, place: str, arrays: dict[str, Any]) -> Any:
    """A value as JSON; its arrays go to `arrays`, each under its place."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        arrays[place] = value
        return {"array": place}
    if isinstance(value, Arm):
        return {"arm": [value.model, value.strategy]}
    if isinstance(value, dict):
        return {"dict": [[key, _packed(each, f"{place}.{key}", arrays)] for key, each in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_packed(each, f"{place}.{number}", arrays) for number, each in enumerate(value)]}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{place} is a {type(value).__name__}, which cannot be saved: learn arrays, numbers and strings")


def _unpacked(packed: Any, arrays: Any) -> Any:
    if not isinstance(packed, dict):
        return packed
    ((kind, content),) = packed.items()
    if kind == "array":
        return arrays[content]
    if kind == "arm":
        return Arm(*content)
    if kind == "dict":
        return {key: _unpacked(each, arrays) for key, each in content}
    each = (_unpacked(one, arrays) for one in content)
    return list(each) if kind == "list" else tuple(each)
