"""The loop for small torch models, on one whose best step is known."""

import pytest
import torch

from recal_bench.toolbox.small_models import Round, copied, epochs, steps, train_best, trainable


class Descent:
    """A number that goes down by 1 a step, and what the loop made of it."""

    def __init__(self, best_at: float) -> None:
        (self.number,) = trainable([torch.tensor(10.0)], "cpu")
        self.best_at, self.lines = best_at, []

    def best(self, rounds: object, **chosen: object) -> float:
        def look() -> tuple[float, float]:
            (now,) = copied([self.number])
            return float(now), abs(float(now) - self.best_at)

        optimizer = torch.optim.SGD([self.number], lr=1.0)
        return train_best(
            optimizer, rounds, lambda batch: self.number * batch, look, lambda *line: self.lines.append(line), **chosen
        )


def ones(rounds: int, batches: int = 1) -> list[Round]:
    return [Round(step + 1, [1.0] * batches) for step in range(rounds)]


def test_the_best_round_is_kept_not_the_last() -> None:
    descent = Descent(best_at=7.0)
    assert descent.best(ones(6)) == 7.0
    assert descent.number.item() == 4.0


def test_every_round_logs_its_step_its_mean_loss_and_its_error() -> None:
    descent = Descent(best_at=0.0)
    descent.best(ones(2, batches=2))
    assert descent.lines == [(1, 9.5, 8.0), (2, 7.5, 6.0)]


@pytest.mark.parametrize("patience", [1, 3])
def test_it_waits_as_long_as_it_is_patient(patience: int) -> None:
    descent = Descent(best_at=8.0)
    assert descent.best(ones(9), patience=patience) == 8.0
    assert len(descent.lines) == 2 + patience


@pytest.mark.parametrize(("start_counts", "kept"), [(True, 10.0), (False, 9.0)])
def test_the_start_may_be_the_best_unless_it_does_not_count(start_counts: bool, kept: float) -> None:
    assert Descent(best_at=12.0).best(ones(3), start_counts=start_counts) == kept


def test_without_a_round_the_start_is_kept() -> None:
    assert Descent(best_at=0.0).best([], start_counts=False) == 10.0


def test_an_epoch_holds_every_query_once_in_an_order_that_the_seed_draws() -> None:
    first, again, other = (
        [torch.cat(list(batches)).tolist() for _, batches in epochs(10, 4, 2, torch.Generator().manual_seed(seed))]
        for seed in (0, 0, 1)
    )
    assert first == again != other
    assert [sorted(rows) for rows in first] == [list(range(10))] * 2
    assert first[0] != first[1]
    assert not list(epochs(0, 4, 2, torch.Generator()))


def test_steps_are_drawn_one_by_one_and_counted() -> None:
    drawn = iter(range(100))
    rounds = [(step, list(batches)) for step, batches in steps(7, 3, lambda: next(drawn))]
    assert rounds == [(3, [0, 1, 2]), (6, [3, 4, 5]), (7, [6])]


def test_torch_computes_in_one_thread_and_has_its_threads_back_after() -> None:
    before, seen = torch.get_num_threads(), []
    number = torch.tensor(1.0, requires_grad=True)
    train_best(
        torch.optim.SGD([number]),
        ones(1),
        lambda batch: number * batch,
        lambda: (seen.append(torch.get_num_threads()), 0.0),
        lambda *line: None,
    )
    assert seen == [1, 1]
    assert torch.get_num_threads() == before
