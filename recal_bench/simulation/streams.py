"""Hash-based random streams: a draw is a function of what it belongs to, never of the order in which it is made.

splitmix64 (Steele, Lea, Flood 2014) on 64-bit keys. So one reply drawn alone equals the same reply in a batch.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Keys: TypeAlias = NDArray[np.uint64]

_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15
_KRONECKER = tuple(int(x * 2**64) for x in (0.8191725133961645, 0.6710436067037893, 0.5497004779019703))
_FIRST, _SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def key_of(*parts: object) -> int:
    """A 64-bit key of texts and numbers, the same on every machine."""
    return int.from_bytes(blake2b("\x1f".join(map(str, parts)).encode(), digest_size=8).digest(), "little")


def mix(key: int) -> int:
    """One splitmix64 step of a single key."""
    key = (key + _GOLDEN) & _MASK
    key = ((key ^ (key >> 30)) * _FIRST) & _MASK
    key = ((key ^ (key >> 27)) * _SECOND) & _MASK
    return key ^ (key >> 31)


def mix_all(keys: Keys) -> Keys:
    """`mix` of every key; any shape of at least one dimension (numpy warns where a scalar wraps around)."""
    mixed = keys + np.uint64(_GOLDEN)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(_FIRST)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(_SECOND)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


def joined(left: Keys, right: Keys) -> Keys:
    """One key for each pair, by broadcasting; not symmetric."""
    return mix_all(mix_all(left) ^ right)


def uniform(keys: Keys, draw: int) -> NDArray[Any]:
    """Draw number `draw` of each key's stream: uniform on the open interval (0, 1)."""
    drawn = mix_all(keys + np.array([mix(draw)], dtype=np.uint64)) >> np.uint64(12)
    return np.asarray((drawn.astype(np.float64) + 0.5) * 2.0**-52)


def evenly(key: int, index: int) -> tuple[float, float, float]:
    """Point `index` of a sequence that covers the unit cube evenly (a Kronecker sequence), shifted by the key.

    What is chosen by it has nearly the same mix in every world and split. Source of the steps: the root of
    x**4 = x + 1 (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    first, second, third = ((mix(key + axis) + index * step & _MASK) / 2.0**64 for axis, step in enumerate(_KRONECKER))
    return first, second, third


class Draws:
    """The stream of one key, drawn one after another in plain Python (for the writing of questions)."""

    def __init__(self, key: int) -> None:
        self._key = key

    def below(self, n: int) -> int:
        """A whole number in 0..n-1."""
        self._key = mix(self._key)
        return (self._key >> 11) * n >> 53

    def fraction(self) -> float:
        """A number in [0, 1)."""
        self._key = mix(self._key)
        return (self._key >> 11) / 2.0**53

    def chance(self, p: float) -> bool:
        return self.fraction() < p
