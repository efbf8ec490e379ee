"""Nests of tensors (dictionaries, lists, tuples) whose first axis is the seed: taken apart and put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree  # what torch.vmap itself takes nests apart with

LARGEST_NORM = 1.0
TINY = 1e-6


def of_seed(tree: Any, seed: int) -> Any:
    """One seed's part, copied. Tensors without axes (a count of steps) belong to every seed."""
    return pytree.tree_map(lambda part: part.clone() if part.ndim == 0 else part[seed].clone(), tree)


def stack_seeds(trees: Sequence[Any]) -> Any:
    """The seeds' parts as one; the inverse of `of_seed`. A tensor without axes is the same for all."""
    return pytree.tree_map(lambda *parts: parts[0] if parts[0].ndim == 0 else torch.stack(parts), *trees)


def side_by_side(trees: Sequence[Any]) -> Any:
    """Nests of S seeds each, one after the other along the seeds' axis."""
    return pytree.tree_map(lambda *parts: torch.cat(parts), *trees)


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


def by_seed(metrics: Mapping[tuple[str, ...], Tensor]) -> list[dict[str, float]]:
    """Numbers of each seed by their names, from tensors `[S, N]` of N names; moved from the device in one go."""
    names = [name for of_block in metrics for name in of_block]
    value_SM = torch.cat(list(metrics.values()), dim=1).detach().float().cpu()
    return [dict(zip(names, value_M, strict=True)) for value_M in value_SM.tolist()]


def clip_gradients(parameters: Sequence[Tensor]) -> Tensor:
    """Bound each seed's gradient norm over parameters `[S, ., .]`; returns the norms before, `[S]`."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm_S = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0).sqrt()
    factor_S = (LARGEST_NORM / (norm_S + TINY)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factor_S[:, None, None])
    return norm_S
