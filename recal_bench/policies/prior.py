"""The retrieval prior: what the arms were worth on the train queries nearest to a query."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from recal_bench.nearest import WHOLE, most_similar
from recal_bench.outcomes.splits import normalized_prompts
from recal_bench.remembered import Remembered, digest

CHUNK = 1024
TINY = 1e-12
WORTH_REMEMBERING = 100
_MEANS: Remembered[Tensor] = Remembered(16)


def neighbour_means(
    embedding_QE: Tensor, memory_NE: Tensor, value_NA: Tensor, k: int, prompt_Q: Tensor | None = None
) -> Tensor:
    """Mean value of each arm over the `k` rows of the memory with the highest cosine similarity, `[Q, A]`.

    A row counts by the square of its similarity (none below 0), so that small topics are not drowned by what lies
    further off. Embeddings have unit length. NaN values do not count; the arm's mean over the memory enters with the
    weight of the nearest row, so that an arm without outcomes nearby has it. Rows that tie with the last one count too,
    but in a memory of more than `WHOLE` rows, which is searched in blocks. Where the queries are the memory,
    `prompt_Q` (one integer a prompt) keeps a query from seeing itself and the queries with an identical prompt.
    """
    known_NA = ~torch.isnan(value_NA)
    value_NA = torch.where(known_NA, value_NA, 0.0)
    known_NA = known_NA.to(value_NA.dtype)
    mean_A = value_NA.sum(dim=0) / known_NA.sum(dim=0).clamp(min=1)
    k = min(k, len(memory_NE))
    means = []
    for start in range(0, len(embedding_QE), CHUNK):
        rows = slice(start, start + CHUNK)
        if len(memory_NE) > WHOLE:
            apart = None if prompt_Q is None else (prompt_Q[rows].numpy(), prompt_Q.numpy())
            found = most_similar(embedding_QE[rows].numpy(), memory_NE.numpy(), k, apart)
            weight_QK = torch.from_numpy(found.similarity_QK).clamp(min=0) ** 2
            weight_QK /= weight_QK.amax(dim=1, keepdim=True).clamp(min=TINY)
            total_QA, count_QA = (
                torch.einsum("qk,qka->qa", weight_QK, each_NA[found.row_QK]) for each_NA in (value_NA, known_NA)
            )
            means.append((total_QA + mean_A) / (count_QA + 1))
            continue
        similarity_QN = (embedding_QE[rows] @ memory_NE.T).clamp_(min=0)
        if prompt_Q is not None:
            similarity_QN.masked_fill_(prompt_Q[rows, None] == prompt_Q[None, :], 0.0)
        least_Q = np.partition(similarity_QN.numpy(), -k, axis=1)[:, -k]
        weight_QN = torch.where(similarity_QN >= torch.from_numpy(least_Q)[:, None], similarity_QN**2, 0.0)
        weight_QN /= weight_QN.amax(dim=1, keepdim=True).clamp(min=TINY)
        means.append((weight_QN @ value_NA + mean_A) / (weight_QN @ known_NA + 1))
    return torch.cat(means)


@dataclass(frozen=True)
class Memory:
    """Train queries and what the arms were worth on them; embeddings have unit length, NaN values do not count.

    A query's values are the means over its `k` nearest.

    Seeds, estimators and trials of a search ask for the same neighbours over and over, which takes longer than a fit:
    the last answers for many queries are kept, by the content of what they were made from.
    """

    embedding_NE: Tensor
    value_NA: Tensor
    k: int

    @cached_property
    def digest(self) -> bytes:
        return digest(self.embedding_NE.numpy(), self.value_NA.numpy())

    def values(self, embedding_QE: Tensor, prompt_Q: Tensor | None = None) -> Tensor:
        """`neighbour_means` of these queries, `[Q, A]`."""

        def means() -> Tensor:
            return neighbour_means(embedding_QE, self.embedding_NE, self.value_NA, self.k, prompt_Q)

        if len(embedding_QE) < WORTH_REMEMBERING:
            return means()
        left_out = b"" if prompt_Q is None else digest(prompt_Q.numpy())
        return _MEANS.get(self.digest + digest(embedding_QE.numpy(), str(self.k)) + left_out, means)


def prompt_numbers(prompts: Sequence[str]) -> Tensor:
    """One integer for each distinct prompt, `[Q]`; capitals and white space do not count."""
    return torch.from_numpy(np.unique(normalized_prompts(prompts), return_inverse=True)[1].astype(np.int64))
