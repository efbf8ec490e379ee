"""How well a policy routes validation, and what is logged of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recal_bench.arrays import FloatQA
from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.live import LivePool
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.rollouts import Rollout, roll_out
from recal_bench.language_model.scoring import NO_QUESTION, arm_log_probs, expected_utility
from recal_bench.language_model.warm_start import route
from recal_bench.training.metrics import cheapest_arms
from recal_bench.training.selection import Selection, macro_mean


@dataclass
class Judge:
    """The policy on validation: what it chooses (greedy) and what it draws (sampled), by their outcomes.

    RL trains the sampled policy, so that one decides what is kept. In the short form its utility is the mean over all
    its replies; where thoughts are free, there are more rounds or arms are asked live, it is that of one draw a query,
    of the same random numbers in each evaluation.
    """

    dialogue: Dialogue
    pool: LoggedPool | LivePool
    questions: Sequence[str]
    alpha: float
    price: float
    best_single: float
    cost_ref: float | None
    cost_rank_A: Tensor

    def __post_init__(self) -> None:
        self.prompt_ids_Q = [self.dialogue.prompt_ids(each) for each in self.questions]
        self.dataset_Q = torch.tensor(self.pool.dataset_Q)

    def line(self, selection: Selection, parameters: dict[str, Tensor], step: int) -> dict[str, float]:
        """What to log of the policy now; `selection` remembers its parameters where they are to be kept."""
        greedy = self.greedy()
        utility_Q, score_Q, cost_Q, arm_Q = self._outcomes(greedy)
        sampled_Q, sampled_malformed = self.sampled()
        selection.consider(sampled_Q, self.dataset_Q, parameters, step)
        line = {
            "validation_utility": macro_mean(utility_Q, self.dataset_Q),
            "validation_score": macro_mean(score_Q, self.dataset_Q),
            "validation_top_arm_share": float(torch.bincount(arm_Q).max() / len(arm_Q)),
            "validation_malformed_share": _malformed(greedy),
            "validation_sampled_utility": macro_mean(sampled_Q, self.dataset_Q),
            "validation_sampled_malformed_share": sampled_malformed,
            "validation_best_single": self.best_single,
            "kept_step": selection.kept_step,
            "kept_gain": selection.gain,
            "kept_gain_error": selection.error,
        }
        if self.cost_ref is not None:
            cheapest_Q = cheapest_arms(self.cost_rank_A, torch.tensor(self.pool.available_QA))
            line["validation_cost_usd_per_1k"] = 1000 * self.cost_ref * float(cost_Q.mean())
            line["validation_cheapest_share"] = float((arm_Q == cheapest_Q).float().mean())
        return line

    def greedy(self) -> list[Rollout]:
        """One trajectory a query, of the likeliest tokens."""
        return self._rolled_out(None)

    def sampled(self) -> tuple[Tensor, float]:
        """The utility of drawn replies to each query, and the share of malformed ones among them."""
        if not self.dialogue.short or self.dialogue.rounds > 1 or isinstance(self.pool, LivePool):
            drawn = self._rolled_out(torch.Generator().manual_seed(0))
            return self._outcomes(drawn)[0], _malformed(drawn)
        log_prob_QA = arm_log_probs(self.dialogue, self.questions)
        arms = range(len(self.dialogue.arms))
        written_A = [len(self.dialogue.reply_ids(route(self.dialogue, arm, NO_QUESTION))) for arm in arms]
        malformed = float(np.clip(1 - np.exp(log_prob_QA).sum(axis=1), 0.0, None).mean())
        return self._mean_utility(self.pool, log_prob_QA, written_A), malformed

    def _rolled_out(self, sample: torch.Generator | None) -> list[Rollout]:
        rows = list(range(len(self.prompt_ids_Q)))
        generate = lambda prompts: self.dialogue.generate(prompts, sample)  # noqa: E731
        return roll_out(self.dialogue, self.prompt_ids_Q, rows, generate, self.pool.answers)

    def _mean_utility(self, pool: LoggedPool, log_prob_QA: FloatQA, tokens_A: Sequence[int]) -> Tensor:
        """Over all replies, `[Q]`; `tokens_A` are read or written besides the prompt where an arm is chosen."""
        tokens_QA = np.add.outer([len(each) for each in self.prompt_ids_Q], tokens_A)
        utility_QA = pool.score_QA - self.alpha * (pool.cost_QA + self.price * tokens_QA)
        utility_QA = np.where(pool.available_QA, utility_QA, np.nan)
        fallback_Q = np.array([pool.fallback(row) for row in range(len(utility_QA))])
        return torch.tensor(expected_utility(log_prob_QA, utility_QA, fallback_Q), dtype=torch.float32)

    def _outcomes(self, rollouts: list[Rollout]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Utility, score, cost (in units of `cost_ref`) and arm of each; a malformed one falls back to best-single."""
        arm_Q = np.array([self.pool.chosen(each) for each in rollouts])
        score_Q, cost_Q, _ = self.pool.results(rollouts, settled=True)
        cost_Q = cost_Q + self.price * np.array([each.tokens for each in rollouts])
        values = torch.tensor(np.stack([score_Q - self.alpha * cost_Q, score_Q, cost_Q]), dtype=torch.float32)
        return *values, torch.tensor(arm_Q)


def _malformed(rollouts: list[Rollout]) -> float:
    return float(np.mean([not each.well_formed for each in rollouts]))
