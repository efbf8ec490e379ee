"""Which policy of a training is kept, chosen on validation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


def task_means(value_Q: Tensor, dataset_Q: Tensor) -> Tensor:
    """Mean of each dataset that has queries, `[D]`."""
    count_D = torch.bincount(dataset_Q)
    total_D = torch.bincount(dataset_Q, weights=value_Q, minlength=len(count_D))
    return total_D[count_D > 0] / count_D[count_D > 0]


def macro_mean(value_Q: Tensor, dataset_Q: Tensor) -> float:
    """A dataset's mean first, then the mean of the datasets."""
    return float(task_means(value_Q, dataset_Q).mean())


def macro_error(value_Q: Tensor, dataset_Q: Tensor) -> float:
    """Standard error of the macro mean (ddof 0 within each dataset)."""
    count_D = torch.bincount(dataset_Q)
    count_D = count_D[count_D > 0]
    variance_D = task_means(value_Q**2, dataset_Q) - task_means(value_Q, dataset_Q) ** 2
    return float((variance_D.clamp(min=0) / count_D).sum().sqrt() / len(count_D))


@dataclass
class Selection:
    """Keeps the latest policy whose macro utility is within one standard error of the best one's.

    The error is that of the paired difference between the two policies' choices on validation. So a lucky early
    evaluation does not discard the training that follows, and a collapse is not kept.
    """

    best: float = -float("inf")
    best_utility_Q: Tensor | None = None
    kept: dict[str, Tensor] | None = None

    def consider(self, utility_Q: Tensor, dataset_Q: Tensor, parameters: dict[str, Tensor]) -> float:
        """Look at one evaluation: the utility of the choices for each validation query. Returns the macro mean."""
        utility = macro_mean(utility_Q, dataset_Q)
        if self.best_utility_Q is None or utility > self.best:
            self.best, self.best_utility_Q, self.kept = utility, utility_Q, dict(parameters)
        elif self.best - utility <= macro_error(self.best_utility_Q - utility_Q, dataset_Q):
            self.kept = dict(parameters)
        return utility

    def pack(self) -> dict[str, Any]:
        return dict(vars(self))
