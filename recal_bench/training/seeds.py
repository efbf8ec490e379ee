"""Nested dictionaries of tensors whose first axis is the seed: taken apart and put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def of_seed(tree: Any, seed: int) -> Any:
    """One seed's part, copied. Tensors without axes (a count of steps) belong to every seed."""
    if isinstance(tree, dict):
        return {name: of_seed(part, seed) for name, part in tree.items()}
    return tree.clone() if tree.ndim == 0 else tree[seed].clone()


def stack_seeds(trees: Sequence[Any]) -> Any:
    """The seeds' parts as one; the inverse of `of_seed`. A tensor without axes is the same for all."""
    first = trees[0]
    if isinstance(first, dict):
        return {name: stack_seeds([tree[name] for tree in trees]) for name in first}
    return first if first.ndim == 0 else torch.stack(list(trees))


def by_seed(metrics: dict[str, Tensor], n_seeds: int) -> list[dict[str, float]]:
    """Numbers of each seed, from tensors `[S]`; moved from the device in one go."""
    value_MS = torch.stack([value.detach().float() for value in metrics.values()]).cpu()
    return [dict(zip(metrics, value_MS[:, seed].tolist(), strict=True)) for seed in range(n_seeds)]
