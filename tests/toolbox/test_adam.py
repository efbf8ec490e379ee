"""Our Adam against torch's, and a training that goes on from a checkpoint of its moments."""

from typing import Any

import pytest
import torch

from recal_bench.toolbox.adam import Adam

SHAPES = (3, 5, 7), (3, 1, 7), (1,)
RATE = 0.01


def start() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    """Of sizes that differ by ten thousand, and 0 now and then."""
    generator = torch.Generator().manual_seed(100 + step)
    drawn = [10.0 ** (step % 5 - 3) * torch.randn(shape, generator=generator) for shape in SHAPES]
    return [each * (each.abs() > 0.001) for each in drawn]


@pytest.mark.parametrize(
    ("ours", "reference_of", "theirs"),
    [
        ({}, torch.optim.Adam, {}),
        ({"penalty": 0.1}, torch.optim.Adam, {"weight_decay": 0.1}),
        ({"decay": 0.1}, torch.optim.AdamW, {"weight_decay": 0.1}),
    ],
)
def test_it_takes_the_steps_of_torch(ours: dict[str, float], reference_of: Any, theirs: dict[str, float]) -> None:
    mine, others = start(), start()
    optimizer, reference = Adam(mine, RATE, **ours), reference_of(others, lr=RATE, **theirs)
    for step in range(50):
        share = 1 - step / 50
        for parameters in (mine, others):
            for parameter, gradient in zip(parameters, gradients(step), strict=True):
                parameter.grad = gradient.clone()
        reference.param_groups[0]["lr"] = RATE * share
        reference.step()
        optimizer.step(share)
        for one, other in zip(mine, others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert (mine[0] - start()[0]).detach().abs().max() > 0.1


def test_what_has_no_gradient_stays() -> None:
    moved, still = start()[:2]
    optimizer = Adam([moved, still], RATE, decay=0.1)
    moved.grad = torch.ones_like(moved)
    optimizer.step()
    assert not torch.equal(moved, start()[0])
    assert torch.equal(still, start()[1])
    optimizer.zero_grad()
    assert moved.grad is None


def test_it_goes_on_from_its_state() -> None:
    whole, broken = start(), start()
    straight, optimizer = Adam(whole, RATE), Adam(broken, RATE)
    for step in range(6):
        if step == 3:
            kept = {name: [each.clone() for each in tensors] for name, tensors in optimizer.state().items()}
            optimizer = Adam(broken, RATE)
            optimizer.restore(kept, 3)
        for parameters, each in ((whole, straight), (broken, optimizer)):
            for parameter, gradient in zip(parameters, gradients(step), strict=True):
                parameter.grad = gradient
            each.step()
    for one, other in zip(whole, broken, strict=True):
        assert torch.equal(one, other)
