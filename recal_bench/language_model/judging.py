"""How well a policy routes validation, and what is logged of that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from recal_bench.language_model.dialogue import Dialogue
from recal_bench.language_model.live import LivePool
from recal_bench.language_model.pool import LoggedPool
from recal_bench.language_model.rollouts import Rollout, roll_out
from recal_bench.training.metrics import cheapest_arms
from recal_bench.training.selection import Selection, macro_mean


@dataclass
class Judge:
    """The policy on validation: what it chooses (`greedy`) and what it draws, one draw a query, by their outcomes."""

    dialogue: Dialogue
    pool: LoggedPool | LivePool
    prompt_ids_Q: list[list[int]]
    alpha: float
    price: float
    best_single: float
    cost_ref: float | None
    cost_rank_A: Tensor

    def rollouts(self, sample: torch.Generator | None) -> list[Rollout]:
        """One trajectory a query: of the likeliest tokens, or drawn."""
        rows = list(range(len(self.prompt_ids_Q)))
        generate = lambda prompts: self.dialogue.generate(prompts, sample)  # noqa: E731
        return roll_out(self.dialogue, self.prompt_ids_Q, rows, generate, self.pool.answers)

    def line(self, selection: Selection, parameters: dict[str, Tensor], step: int) -> dict[str, float]:
        """What to log of the policy now; `selection` remembers its parameters where they are to be kept."""
        greedy, drawn = self.rollouts(None), self.rollouts(torch.Generator().manual_seed(step))
        utility_Q, score_Q, cost_Q, arm_Q = self._outcomes(greedy)
        dataset_Q = torch.tensor(self.pool.dataset_Q)
        selection.consider(utility_Q, dataset_Q, parameters, step)
        line = {
            "validation_utility": macro_mean(utility_Q, dataset_Q),
            "validation_score": macro_mean(score_Q, dataset_Q),
            "validation_top_arm_share": float(torch.bincount(arm_Q).max() / len(arm_Q)),
            "validation_malformed_share": float(np.mean([not each.well_formed for each in greedy])),
            "validation_sampled_utility": macro_mean(self._outcomes(drawn)[0], dataset_Q),
            "validation_sampled_malformed_share": float(np.mean([not each.well_formed for each in drawn])),
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

    def _outcomes(self, rollouts: list[Rollout]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Utility, score, cost (in units of `cost_ref`) and arm of each; a malformed one falls back to best-single."""
        arm_Q = np.array([self.pool.chosen(each) for each in rollouts])
        score_Q, cost_Q, _ = self.pool.results(rollouts, settled=True)
        cost_Q = cost_Q + self.price * np.array([each.tokens for each in rollouts])
        values = torch.tensor(np.stack([score_Q - self.alpha * cost_Q, score_Q, cost_Q]), dtype=torch.float32)
        return *values, torch.tensor(arm_Q)
