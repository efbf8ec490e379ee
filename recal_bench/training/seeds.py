"""Nests of tensors (dictionaries, lists, tuples) whose first axis is the seed: taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # what torch.vmap itself takes nests apart with


def of_seed(tree: Any, seed: int) -> Any:
    """One seed's part, copied. Tensors without axes (a count of steps) belong to every seed."""
    return pytree.tree_map(lambda part: part.clone() if part.ndim == 0 else part[seed].clone(), tree)


def stack_seeds(trees: Sequence[Any]) -> Any:
    """The seeds' parts as one; the inverse of `of_seed`. A tensor without axes is the same for all."""
    return pytree.tree_map(lambda *parts: parts[0] if parts[0].ndim == 0 else torch.stack(parts), *trees)


def leaves(tree: Any) -> list[Any]:
    """The tensors of a nest, in a fixed order: what a checkpoint can hold whatever the classes of the nest."""
    return pytree.tree_leaves(tree)


def like(tree: Any, tensors: Sequence[Tensor]) -> Any:
    """A nest of the form of another, from its `leaves`."""
    return pytree.tree_unflatten(list(tensors), pytree.tree_structure(tree))


def over_seeds(function: Callable[..., Any], *trees: Any) -> Any:
    """What a function of nests gives for every seed on its own, as one nest. One seed is spared the cost of `vmap`."""
    if len(leaves(trees)[0]) > 1:
        return torch.vmap(function)(*trees)
    return pytree.tree_map(lambda part: part[None], function(*pytree.tree_map(lambda part: part[0], trees)))


def by_seed(metrics: dict[str, Tensor], n_seeds: int) -> list[dict[str, float]]:
    """Numbers of each seed, from tensors `[S]`; moved from the device in one go."""
    value_MS = torch.stack(list(metrics.values())).detach().float().cpu()
    return [dict(zip(metrics, value_MS[:, seed].tolist(), strict=True)) for seed in range(n_seeds)]
