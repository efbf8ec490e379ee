"""The loop that trains a small torch model, and keeps what does best on validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from recal_bench.toolbox.threads import one_thread

if TYPE_CHECKING:
    import torch

T = TypeVar("T")


class Optimizer(Protocol):
    """`adam.Adam`, or one of torch.optim, which takes a second longer to import."""

    def zero_grad(self) -> None: ...
    def step(self) -> Any: ...


class Round(NamedTuple):
    """Batches, drawn when they are asked for, and the number of the epoch or step after them."""

    step: int
    batches: Iterable[Any]


def epochs(queries: int, batch: int, count: int, generator: torch.Generator) -> Iterator[Round]:
    """Epochs of batches of row numbers, in an order drawn for each. None where there is no query."""
    import torch

    for epoch in range(1, count + 1 if queries else 1):
        yield Round(epoch, torch.split(torch.randperm(queries, generator=generator), batch))


def steps(count: int, look_every: int, draw: Callable[[], Any]) -> Iterator[Round]:
    """Rounds of `look_every` batches, each drawn by itself; the last round may be shorter."""
    for start in range(0, count, look_every):
        end = min(start + look_every, count)
        yield Round(end, (draw() for _ in range(start, end)))


def train_best(
    optimizer: Optimizer,
    rounds: Iterable[Round],
    loss_of: Callable[[Any], torch.Tensor],
    look: Callable[[], tuple[T, float]],
    log: Callable[[int, float, float], None],
    *,
    patience: int | None = None,
    start_counts: bool = True,
) -> T:
    """Step by step down the loss of every batch; what `look` gave after the best round.

    `look` gives what is to be kept of the model now, and its error on validation, the lower the better. `log` gets the
    step, the mean loss of the round and that error. Training stops after `patience` rounds without a lower error. The
    model at the start may be the best, unless `start_counts` is False. Torch computes in one thread.
    """
    with one_thread():
        best, least = look()
        least = least if start_counts else np.inf
        waited = 0
        for step, batches in rounds:
            losses = []
            for batch in batches:
                loss: Any = loss_of(batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.item())
            kept, error = look()
            log(step, float(np.mean(losses)), error)
            waited += 1
            if error < least:
                best, least, waited = kept, error, 0
            elif waited == patience:
                break
    return best


def trainable(tensors: Iterable[torch.Tensor], device: str) -> list[torch.Tensor]:
    """The tensors on a device, for an optimizer to change."""
    return [tensor.to(device).requires_grad_() for tensor in tensors]


def copied(tensors: Iterable[torch.Tensor]) -> list[NDArray[Any]]:
    """Copies as numpy arrays, which further steps leave as they are."""
    return [tensor.detach().cpu().numpy().copy() for tensor in tensors]


def log_errors(log: Callable[[dict[str, Any]], None]) -> Callable[[int, float, float], None]:
    """For `train_best`: lines of the training log with the errors on train and on validation."""
    return lambda step, train, validation: log({"step": step, "train_error": train, "validation_error": validation})
