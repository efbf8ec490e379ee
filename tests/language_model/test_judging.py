"""What is kept of a language model's training: the policy whose sampled replies are worth most on validation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("trl", minversion="1.16", reason="TRL is not installed: it comes with the extra lm")

import torch
from small_policy import ARMS, QUESTIONS, outcomes, policy

from recal_bench.language_model.judging import Judge
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.warm_start import supervise
from recal_bench.training.selection import Selection

ALPHA, PRICE = 0.3, 0.001

# transformers and torch warn of each other's deprecations.
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    """Of a policy that has learnt the form, and of each question two arms of four."""
    dialogue, rng = policy(), np.random.default_rng(0)
    rows = rng.integers(len(QUESTIONS), size=1500)
    chosen = (rows + rng.integers(2, size=len(rows))) % len(ARMS)
    supervise(dialogue, QUESTIONS, rows, chosen, 1e-2, 16, 16, 0, "cpu", tmp_path_factory.mktemp("start"))
    return Judge(dialogue, outcomes(), QUESTIONS, ALPHA, PRICE, 0.5, 1e-3, torch.arange(4))


def test_the_sampled_utility_is_the_mean_of_many_draws(judge: Judge) -> None:
    mean_Q, malformed = judge.sampled()
    draws = 400
    many = Judge(judge.dialogue, copies(judge.pool, draws), QUESTIONS * draws, ALPHA, PRICE, 0.5, 1e-3, torch.arange(4))
    drawn = many._rolled_out(torch.Generator().manual_seed(1))
    utility_NQ = many._outcomes(drawn)[0].numpy().reshape(draws, -1)
    error_Q = utility_NQ.std(axis=0, ddof=1) / np.sqrt(draws)
    assert (error_Q > 1e-3).any()
    # Malformed replies have any length, and so any bill: the mean counts that of the arm that answers for them.
    np.testing.assert_array_less(np.abs(utility_NQ.mean(axis=0) - mean_Q.numpy()), 4.5 * error_Q + 0.1 * malformed)
    assert malformed < 0.2
    assert malformed == pytest.approx(np.mean([not each.well_formed for each in drawn]), abs=0.02)


def copies(pool: LoggedPool, times: int) -> LoggedPool:
    rows = np.tile(np.arange(len(pool.score_QA)), times)
    named = ("score_QA", "cost_QA", "available_QA", "dataset_Q")
    return replace(pool, **{name: getattr(pool, name)[rows] for name in named}, response_QA=None)


def test_the_sampled_policy_decides_what_is_kept(judge: Judge) -> None:
    greedy_Q = np.array([each.calls[-1] for each in judge.greedy()])
    score_QA = (np.arange(len(ARMS)) == greedy_Q[:, None]).astype(float)
    given = replace(judge.pool, score_QA=score_QA, available_QA=np.ones_like(score_QA, dtype=bool))
    sharper = policy()
    sharper.local.model.load_state_dict(judge.dialogue.local.model.state_dict())
    with torch.no_grad():
        sharper.local.model.lm_head.weight.mul_(3)
    before, after = (
        Judge(dialogue, given, QUESTIONS, 0.0, 0.0, 0.5, 1e-3, torch.arange(4))
        for dialogue in (sharper, judge.dialogue)
    )
    selection = Selection()
    lines = [before.line(selection, {}, 0), after.line(selection, {}, 1)]
    assert [line["validation_utility"] for line in lines] == [1.0, 1.0]
    assert lines[1]["validation_sampled_utility"] < lines[0]["validation_sampled_utility"] - 0.05
    assert [line["kept_step"] for line in lines] == [0, 0]
    assert before.line(Selection(), {}, 1)["kept_step"] == 1


def test_trajectories_of_several_rounds_are_drawn_by_the_same_random_numbers(judge: Judge, tmp_path: Path) -> None:
    twice = replace(judge.dialogue, rounds=2)
    drawn = Judge(twice, judge.pool, QUESTIONS, ALPHA, PRICE, 0.5, 1e-3, torch.arange(4))
    (one_Q, share), (other_Q, again) = drawn.sampled(), drawn.sampled()
    assert torch.equal(one_Q, other_Q)
    assert share == again
    assert not torch.equal(one_Q, judge.sampled()[0])
