"""The learned component of a trajectory with several calls, as calibration gets it."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("transformers", reason="transformers is not installed: it comes with the extra lm")

import torch
from small_policy import QUESTIONS, outcomes, policy

from recal_bench.calibration.components import Weighted
from recal_bench.calibration.rewards import Components, Terms
from recal_bench.language_model.learned import LEARNED, Learned
from recal_bench.language_model.rollouts import Rollout, TrainingRollouts

SCORE_QA = np.tile([0.9, 0.4, 0.7, 0.1], (len(QUESTIONS), 1))


@pytest.mark.parametrize(
    ("kind", "td", "calls", "expected"),
    [
        ("clip", 0, [1, 0, 3], (0.4 - 0.5) + 0 + (0.1 - 0.5)),
        ("delta", 0, [1, 0, 3], 0.4),
        ("delta", 0, [3], 0.1),
        ("delta", 1, [1, 0, 3], 0.9),
        ("delta", 3, [1, 0, 3], 1.0),
        ("clip", 1, [1, 0, 3], 0 + (0.1 - 0.5) + 0),
        ("clip", 0, [], 0.0),
    ],
)
def test_by_hand(kind: str, td: int, calls: list[int], expected: float) -> None:
    learned = Learned(kind, 0.5, td, SCORE_QA)  # type: ignore[arg-type]
    assert learned(0, calls, 1.0) == pytest.approx(expected)


def test_it_is_a_component_of_its_own_weight_and_0_of_what_is_malformed() -> None:
    pool = outcomes()
    reward = Components(Terms(0.2, True, added=(Weighted(LEARNED, 0.3),)))
    learned = Learned("clip", 0.5, 0, SCORE_QA)
    rolled = TrainingRollouts(policy(), pool, reward, [], 0.0, False, torch.zeros(0), learned)
    reward_NK = rolled.judge(
        [Rollout(1, [], calls=[1, 3]), Rollout(2, [], calls=[3], broken=("no-route",)), Rollout(3, [], calls=[0])]
    )
    assert reward.names[-1] == "learned"
    assert reward.weights[-1] == 0.3
    torch.testing.assert_close(reward_NK[:, -1], torch.tensor([-0.5, 0.0, 0.0]))
    assert reward_NK[0, 1] == pool.score_QA[1, 3]
