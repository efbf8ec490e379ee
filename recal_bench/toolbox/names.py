"""Random starts that depend on what an arm is called, not on its place in a list."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from recal_bench.outcomes import Arm


def named_vectors(arms: Sequence[Arm], factors: int, seed: int) -> np.ndarray:
    """A random vector for each arm, `[A, factors]`, from a stream of its own that its name and the seed begin."""
    digests = [hashlib.sha256(f"{seed} {arm}".encode()).digest() for arm in arms]
    streams = [np.random.default_rng(int.from_bytes(digest, "big")) for digest in digests]
    return np.stack([stream.standard_normal(factors, dtype=np.float32) for stream in streams])
