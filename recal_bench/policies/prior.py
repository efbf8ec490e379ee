"""The retrieval prior: what the arms were worth on the train queries nearest to a query."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

CHUNK = 1024
TINY = 1e-12


def neighbour_means(
    embedding_QE: Tensor, memory_NE: Tensor, value_NA: Tensor, k: int, prompt_Q: Tensor | None = None
) -> Tensor:
    """Mean value of each arm over the `k` rows of the memory with the highest cosine similarity, `[Q, A]`.

    A row counts by the square of its similarity (none below 0), so that small topics are not drowned by what lies
    further off. Embeddings have unit length. NaN values do not count; the arm's mean over the memory enters with the
    weight of the nearest row, so that an arm without outcomes nearby has it. Where the queries are the memory,
    `prompt_Q` (one integer a prompt) keeps a query from seeing itself and the queries with an identical prompt.
    """
    known_NA = ~torch.isnan(value_NA)
    value_NA = torch.where(known_NA, value_NA, 0.0)
    known_NA = known_NA.to(value_NA.dtype)
    mean_A = value_NA.sum(dim=0) / known_NA.sum(dim=0).clamp(min=1)
    means = []
    for start in range(0, len(embedding_QE), CHUNK):
        rows = slice(start, start + CHUNK)
        similarity_QN = embedding_QE[rows] @ memory_NE.T
        if prompt_Q is not None:
            similarity_QN.masked_fill_(prompt_Q[rows, None] == prompt_Q[None, :], -torch.inf)
        top = similarity_QN.topk(min(k, len(memory_NE)), dim=-1)
        weight_Qk = top.values.clamp(min=0) ** 2
        weight_Qk1 = (weight_Qk / weight_Qk.amax(dim=1, keepdim=True).clamp(min=TINY))[..., None]
        total_QA = (value_NA[top.indices] * weight_Qk1).sum(dim=1)
        count_QA = (known_NA[top.indices] * weight_Qk1).sum(dim=1)
        means.append((total_QA + mean_A) / (count_QA + 1))
    return torch.cat(means)


def prompt_numbers(prompts: Sequence[str]) -> Tensor:
    """One integer for each distinct prompt, `[Q]`."""
    return torch.from_numpy(np.unique(np.array(prompts, dtype=object), return_inverse=True)[1].astype(np.int64))
