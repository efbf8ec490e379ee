"""Adam (arXiv 1412.6980), step for step as `torch.optim.Adam`, whose first use imports a compiler for a second."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

BETAS = 0.9, 0.999
EPS = 1e-8


class Adam:
    """Moves parameters in place against their gradients. The constants are torch's defaults.

    `decay` draws parameters towards 0 beside the gradient (AdamW, arXiv 1711.05101), by `learning_rate * decay` of
    themselves a step; `penalty` does it through the gradient, to which it adds that many times the parameter.
    """

    def __init__(
        self, parameters: Iterable[Tensor], learning_rate: float, *, decay: float = 0.0, penalty: float = 0.0
    ) -> None:
        self.parameters, self.learning_rate = list(parameters), learning_rate
        self.decay, self.penalty = decay, penalty
        self.steps = 0
        self.means = [torch.zeros_like(parameter) for parameter in self.parameters]
        self.squares = [torch.zeros_like(parameter) for parameter in self.parameters]

    def zero_grad(self) -> None:
        for parameter in self.parameters:
            parameter.grad = None

    @torch.no_grad()
    def step(self, share: float = 1.0) -> None:
        """One step of every parameter with a gradient, at a share of the learning rate."""
        self.steps += 1
        learning_rate = self.learning_rate * share
        of_mean, of_square = (1 - beta**self.steps for beta in BETAS)
        size, root = learning_rate / of_mean, math.sqrt(of_square)
        for parameter, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            gradient = parameter.grad
            if gradient is None:
                continue
            if self.decay:
                parameter.mul_(1 - learning_rate * self.decay)
            if self.penalty:
                gradient = gradient.add(parameter, alpha=self.penalty)
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            parameter.addcdiv_(mean, (square.sqrt() / root).add_(EPS), value=-size)

    def state(self) -> dict[str, Any]:
        """The moments, for a checkpoint."""
        return {"means": self.means, "squares": self.squares}

    def restore(self, state: dict[str, Any], steps: int) -> None:
        self.steps, self.means, self.squares = steps, state["means"], state["squares"]
