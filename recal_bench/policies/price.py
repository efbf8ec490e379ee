"""The price of cost, alpha, as an input of the policy: one policy for every point of the frontier."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

LOWEST, HIGHEST = 0.01, 2.0
"""Alphas are drawn log-uniformly from here in training; beyond, the policy sees the nearest end."""
JUDGED = (0.01, 0.05, 0.2, 0.6, 2.0)
"""A conditioned policy is judged on validation by its mean utility over these."""


def draw_alphas(count: int, generator: torch.Generator) -> Tensor:
    """One alpha for each query, `[Q]`, log-uniform; from the generator's device."""
    return LOWEST * (HIGHEST / LOWEST) ** torch.rand(count, generator=generator)


def with_price(embedding_QE: Tensor, alpha_Q1: Tensor) -> Tensor:
    """The embedding with one more entry that tells alpha: -1 at the lowest, 1 at the highest, logarithmically.

    The policy scales unit embeddings to entries of about unit size: this entry is made to be scaled with them.
    """
    position_Q1 = (alpha_Q1.clamp(LOWEST, HIGHEST) / LOWEST).log() / math.log(HIGHEST / LOWEST)
    entry_Q1 = (2 * position_Q1 - 1) / math.sqrt(embedding_QE.shape[-1] + 1)
    shape = torch.broadcast_shapes(embedding_QE.shape[:-1], alpha_Q1.shape[:-1])  # type: ignore[no-untyped-call]
    return torch.cat([embedding_QE.expand(*shape, embedding_QE.shape[-1]), entry_Q1.expand(*shape, 1)], dim=-1)


def priced(
    embedding_QE: Tensor, score_QA: Tensor, cost_QA: Tensor, alpha_Q1: Tensor, mode: Literal["fixed", "conditioned"]
) -> tuple[Tensor, Tensor]:
    """What the policy sees at a price: embedding, and prior logits `score - alpha * cost`."""
    embedding_QE = with_price(embedding_QE, alpha_Q1) if mode == "conditioned" else embedding_QE
    return embedding_QE, score_QA - alpha_Q1 * cost_QA
