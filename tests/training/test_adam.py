"""Our Adam against torch's, and a training that goes on from a checkpoint of its moments."""

import torch

from recal_bench.training.adam import Adam

SHAPES = (3, 5, 7), (3, 1, 7), (1,)


def start() -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]


def gradients(step: int) -> list[torch.Tensor]:
    """Of sizes that differ by ten thousand, and 0 now and then."""
    generator = torch.Generator().manual_seed(100 + step)
    drawn = [10.0 ** (step % 5 - 3) * torch.randn(shape, generator=generator) for shape in SHAPES]
    return [each * (each.abs() > 0.001) for each in drawn]


def test_it_takes_the_steps_of_torchs_adam() -> None:
    mine, theirs = start(), start()
    optimizer, reference = Adam(mine), torch.optim.Adam(theirs, lr=1.0)
    for step in range(50):
        learning_rate = 0.01 * (1 - step / 50)
        for parameters in (mine, theirs):
            for parameter, gradient in zip(parameters, gradients(step), strict=True):
                parameter.grad = gradient
        reference.param_groups[0]["lr"] = learning_rate
        reference.step()
        optimizer.step(learning_rate)
        for one, other in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)
    assert (mine[0] - start()[0]).detach().abs().max() > 0.1


def test_it_goes_on_from_its_state() -> None:
    whole, broken = start(), start()
    straight, optimizer = Adam(whole), Adam(broken)
    for step in range(6):
        if step == 3:
            kept = {name: [each.clone() for each in tensors] for name, tensors in optimizer.state().items()}
            optimizer = Adam(broken)
            optimizer.restore(kept, 3)
        for parameters, each in ((whole, straight), (broken, optimizer)):
            for parameter, gradient in zip(parameters, gradients(step), strict=True):
                parameter.grad = gradient
            each.step(0.01)
    for one, other in zip(whole, broken, strict=True):
        assert torch.equal(one, other)
