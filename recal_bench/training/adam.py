"""Adam (arXiv 1412.6980), step for step as `torch.optim.Adam`, whose first use imports a compiler for a second."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

BETAS = 0.9, 0.999
EPS = 1e-8


class Adam:
    """Moves parameters in place against their gradients. The constants are torch's defaults."""

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.parameters = list(parameters)
        self.steps = 0
        self.means = [torch.zeros_like(parameter) for parameter in parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in parameters]

    @torch.no_grad()
    def step(self, learning_rate: float) -> None:
        """One step of every parameter. All need a gradient."""
        self.steps += 1
        of_mean, of_square = (1 - beta**self.steps for beta in BETAS)
        size, root = learning_rate / of_mean, math.sqrt(of_square)
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient = parameter.grad
            assert gradient is not None
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            parameter.addcdiv_(mean, (square.sqrt() / root).add_(EPS), value=-size)

    def state(self) -> dict[str, Any]:
        """The moments, for a checkpoint."""
        return {"means": self.means, "squares": self.squares}

    def restore(self, state: dict[str, Any], steps: int) -> None:
        self.steps, self.means, self.squares = steps, state["means"], state["squares"]
