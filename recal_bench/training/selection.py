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
    evaluation does not discard the training that follows, and a collapse is not kept. `kept_step`, `gain` and `error`
    say which step's it is, and what it gained over the first one (macro utility and the standard error of that).
    """

    best: float = -float("inf")
    best_utility_Q: Tensor | None = None
    first_utility_Q: Tensor | None = None
    kept: dict[str, Tensor] | None = None
    kept_step: int = 0
    gain: float = 0.0
    error: float = 0.0

    def consider(self, utility_Q: Tensor, dataset_Q: Tensor, parameters: dict[str, Tensor], step: int = 0) -> float:
        """Look at one evaluation: the utility of the choices for each validation query. Returns the macro mean."""
        utility = macro_mean(utility_Q, dataset_Q)
        is_best = self.best_utility_Q is None or utility > self.best
        if self.first_utility_Q is None:
            self.first_utility_Q = utility_Q
        if self.best_utility_Q is None or is_best:
            self.best, self.best_utility_Q = utility, utility_Q
        if is_best or self.best - utility <= macro_error(self.best_utility_Q - utility_Q, dataset_Q):
            self.kept, self.kept_step = dict(parameters), step
            gain_Q = utility_Q - self.first_utility_Q
            self.gain, self.error = macro_mean(gain_Q, dataset_Q), macro_error(gain_Q, dataset_Q)
        return utility

    def pack(self) -> dict[str, Any]:
        return dict(vars(self))
