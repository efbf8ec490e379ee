"""The method in one file is the method: its steps are the trainer's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from recal_bench.calibration import ESTIMATORS, Calibration
from recal_bench.calibration.rewards import Components, Terms
from recal_bench.outcomes import Arm
from recal_bench.policies.encoder_policy import EncoderPolicy
from recal_bench.training.examples import Examples
from recal_bench.training.learner import Learner
from recal_bench.training.settings import Optimisation

ARMS = tuple(Arm(model, strategy) for model in ("large", "small") for strategy in ("cot", "direct"))
ALPHA, STEPS, SIZE = 0.2, 40, 12


@pytest.fixture(scope="module")
def loop() -> Any:
    path = Path(__file__).parents[2] / "examples" / "recal_loop.py"
    spec = importlib.util.spec_from_file_location("recal_loop", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def outcomes() -> Examples:
    """Three tasks, one of them rare and one nearly solved; every arm has an outcome."""
    rng = np.random.default_rng(0)
    task_Q = rng.choice(3, 500, p=[0.6, 0.35, 0.05])
    embedding_QE = rng.standard_normal((500, SIZE))
    embedding_QE /= np.linalg.norm(embedding_QE, axis=1, keepdims=True)
    p_QA = np.where((task_Q == 1)[:, None], 0.97, 0.2 + 0.5 * (embedding_QE[:, :4] > 0))
    tensors = [
        embedding_QE,
        rng.random((500, 4)),
        np.zeros((500, 4)),
        rng.random((500, 4)) < p_QA,
        rng.gamma(2.0, 0.2, (500, 4)),
    ]
    embedding, score_prior, cost_prior, score, cost = (torch.tensor(each, dtype=torch.float32) for each in tensors)
    everywhere = torch.ones(500, 4, dtype=torch.bool)
    return Examples(
        embedding,
        score_prior,
        cost_prior,
        torch.ones(500, 1),
        everywhere,
        score,
        cost,
        torch.zeros(500, 4, 0),
        torch.tensor(task_Q),
    )


def data_of(loop: Any, examples: Examples) -> Any:
    return loop.Data(
        examples.embedding_QE, examples.prior_score_QA, examples.score_QA, examples.cost_QA, examples.dataset_Q
    )


def test_the_first_steps_are_those_of_the_trainer(loop: Any) -> None:
    """Both draw from generators of the same seed, in the same order: the actions are the same."""
    examples, generator = outcomes(), torch.Generator().manual_seed(7)
    learner = Learner(
        policy=EncoderPolicy(ARMS, SIZE, loop.HIDDEN, loop.MALFORMED, [generator]),
        generators=[generator],
        reward=Components(Terms(ALPHA, has_cost=True)),
        estimator=ESTIMATORS["recal"],
        calibration=Calibration(),
        settings=Optimisation(steps=STEPS, balance=False),
        price="fixed",
        tasks=("common", "rare", "solved"),
        cost_ref=1.0,
        best_single=0.0,
        train=examples,
        validation=examples,
    )
    own = torch.Generator().manual_seed(7)
    policy = loop.Policy(ARMS, SIZE, loop.HIDDEN, own)
    optimizer = torch.optim.Adam(policy.parameters(), lr=loop.RATE)
    calibration = loop.Calibration(torch.tensor([1.0, 1.0, ALPHA]), 3)
    train = data_of(loop, examples)
    for number in range(5):
        rollouts = learner.draw()
        judged = learner.judge(rollouts)
        learner.ascend(rollouts, judged.advantage_SQG)
        optimizer.param_groups[0]["lr"] = loop.RATE * (1 - number / STEPS)
        advantage_QG = loop.step(policy, optimizer, calibration, train, own)
        assert advantage_QG.abs().max() > 0.1
        torch.testing.assert_close(advantage_QG, judged.advantage_SQG[0], rtol=1e-5, atol=1e-5)
        theirs = dict(learner.policy.named_parameters())
        for name, mine in policy.named_parameters():
            assert mine.grad is not None
            torch.testing.assert_close(mine.grad, theirs[name].grad[0], rtol=1e-5, atol=1e-5)
        assert policy.last_weight.grad.abs().max() > 1e-3


def test_the_prior_is_the_trainers(loop: Any) -> None:
    from recal_bench.policies.prior import neighbour_means, prompt_numbers

    examples = outcomes()
    memory = loop.Data(
        examples.embedding_QE, examples.prior_score_QA, examples.score_QA, examples.cost_QA, examples.dataset_Q
    )
    loop_prior_QA = loop.prior(memory, memory, ALPHA)
    value_NA = examples.score_QA - ALPHA * examples.cost_QA
    numbers_Q = prompt_numbers([f"prompt {row}" for row in range(500)])
    means_QA = neighbour_means(examples.embedding_QE, examples.embedding_QE, value_NA, loop.NEIGHBOURS, numbers_Q)
    torch.testing.assert_close(loop_prior_QA, loop.PRIOR_SCALE * means_QA, rtol=1e-4, atol=1e-4)


def test_it_is_read_without_the_trainer(loop: Any) -> None:
    text = Path(loop.__file__).read_text(encoding="utf-8")
    assert "recal_bench.calibration" not in text
    assert "recal_bench.training" not in text
