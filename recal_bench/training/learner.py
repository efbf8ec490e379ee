"""A policy in training: one step, one evaluation, and all that persists between steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recal_bench.calibration import Calibration, CalibrationState, calibrate, has_spread, weighted_sum
from recal_bench.policies.actions import Actions
from recal_bench.policies.encoder_policy import EncoderPolicy
from recal_bench.rewards import Reward
from recal_bench.training.selection import Selection, macro_mean
from recal_bench.training.settings import Optimisation

AVERAGING = 0.98
LARGEST_NORM = 1.0


class Examples(NamedTuple):
    """Queries of one split. Scores, utilities, costs (in units of `cost_ref`) are 0 where an arm is not available."""

    embedding_QE: Tensor
    prior_QA: Tensor
    available_QA: Tensor
    score_QA: Tensor
    cost_QA: Tensor | None
    utility_QA: Tensor
    dataset_Q: Tensor

    def take(self, rows: Tensor) -> Examples:
        parts: list[Any] = [None if part is None else part[rows] for part in self]
        return Examples(*parts)


@dataclass
class Learner:
    """`tasks` names the datasets; `generator` is the only source of randomness; `cost_ref` is in USD."""

    policy: EncoderPolicy
    reward: Reward
    calibration: Calibration
    settings: Optimisation
    tasks: tuple[str, ...]
    cost_ref: float | None
    generator: torch.Generator

    def __post_init__(self) -> None:
        device = self.policy.device
        self.step = 0
        self.weight_K = torch.tensor(self.reward.weights, device=device)
        n_components = len(self.reward.names) if self.calibration.components else 1
        self.state = CalibrationState.empty(
            torch.zeros(n_components, device=device), torch.zeros(len(self.tasks), device=device)
        )
        self.buffer_N = torch.zeros(0, device=device)
        self.optimizer = torch.optim.Adam(self.policy.parameters(), lr=self.settings.learning_rate)
        self.average = {name: value.clone() for name, value in self.policy.state_dict().items()}
        self.selection = Selection()

    def improve(self, train: Examples) -> dict[str, float]:
        """One step: draw, reward, calibrate, and raise the clipped objective. Returns what to log."""
        settings = self.settings
        rows = torch.randint(len(train.dataset_Q), (settings.batch_size,), generator=self.generator)
        batch = train.take(rows.to(self.policy.device))
        with torch.no_grad():
            before = self.policy(batch.embedding_QE, batch.prior_QA, batch.available_QA)
            actions = before.sample(settings.group_size, self.generator)
            log_before_QG = before.log_prob(actions)
            reward_QGK, self.buffer_N = self.reward(
                actions.well_formed_QG,
                batch.score_QA.gather(1, actions.arm_QG),
                None if batch.cost_QA is None else batch.cost_QA.gather(1, actions.arm_QG),
                self.buffer_N,
            )
            everything_QG = torch.ones_like(actions.well_formed_QG)
            advantage_QG, self.state = calibrate(
                reward_QGK,
                self.weight_K,
                self.reward.outcome,
                batch.dataset_Q,
                everything_QG,
                self.state,
                self.calibration,
            )
        learning_rate = settings.learning_rate * (1 - self.step / settings.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        untrained = self.policy.untrained(batch.prior_QA, batch.available_QA)
        for _ in range(settings.epochs):
            now = self.policy(batch.embedding_QE, batch.prior_QA, batch.available_QA)
            ratio_QG = (now.log_prob(actions) - log_before_QG).exp()
            clipped_QG = ratio_QG.clamp(1 - settings.clip, 1 + settings.clip)
            gain = torch.minimum(ratio_QG * advantage_QG, clipped_QG * advantage_QG).mean()
            entropy, kl = now.entropy().mean(), now.kl(untrained).mean()
            self.optimizer.zero_grad()
            (-gain - settings.entropy * entropy + settings.kl * kl).backward()
            norm = torch.nn.utils.clip_grad_norm_(self.policy.parameters(), LARGEST_NORM)
            self.optimizer.step()
        for name, value in self.policy.state_dict().items():
            self.average[name] = torch.lerp(self.average[name], value, 1 - AVERAGING)
        self.step += 1
        total_QG = weighted_sum(reward_QGK, self.weight_K)
        return {
            "step": self.step,
            "reward": float(total_QG.mean()),
            **self._component_metrics(reward_QGK),
            **self._action_metrics(actions),
            "groups_without_spread": float((~has_spread(total_QG, everything_QG, axis=1)).float().mean()),
            "entropy": entropy.item(),
            "kl": kl.item(),
            "gradient_norm": norm.item(),
            "clip_fraction": float((ratio_QG != clipped_QG).float().mean()),
            "learning_rate": learning_rate,
        }

    def _component_metrics(self, reward_QGK: Tensor) -> dict[str, float]:
        flat_NK = reward_QGK.flatten(0, 1)
        mean_K, std_K = flat_NK.mean(dim=0).tolist(), flat_NK.std(dim=0, correction=0).tolist()
        scale_D = self.state.scale_D.value_N.sqrt().tolist()
        return {
            **{f"component_mean/{name}": mean for name, mean in zip(self.reward.names, mean_K, strict=True)},
            **{f"component_std/{name}": std for name, std in zip(self.reward.names, std_K, strict=True)},
            **{f"advantage_scale/{task}": scale for task, scale in zip(self.tasks, scale_D, strict=True)},
        }

    def _action_metrics(self, actions: Actions) -> dict[str, float]:
        count_A = torch.bincount(actions.arm_QG[actions.well_formed_QG], minlength=1)
        return {
            "malformed_share": float((~actions.well_formed_QG).float().mean()),
            "top_arm_share": float(count_A.max() / count_A.sum().clamp(min=1)),
        }

    @torch.no_grad()
    def evaluate(self, validation: Examples) -> dict[str, float]:
        """Judge the averaged policy's likeliest arms; remember the policy if it is to be kept. Returns what to log."""
        inputs = (validation.embedding_QE, validation.prior_QA, validation.available_QA)
        actions = torch.func.functional_call(self.policy, self.average, inputs)
        arm_Q1 = actions.log_arm_QA.argmax(dim=-1, keepdim=True)
        utility_Q = validation.utility_QA.gather(1, arm_Q1)[:, 0]
        utility = self.selection.consider(utility_Q, validation.dataset_Q, self.average)
        metrics = {
            "validation_utility": utility,
            "validation_score": macro_mean(validation.score_QA.gather(1, arm_Q1)[:, 0], validation.dataset_Q),
            "validation_top_arm_share": float(torch.bincount(arm_Q1[:, 0]).max() / len(arm_Q1)),
            "validation_malformed_share": float(torch.sigmoid(-actions.format_logit_Q).mean()),
        }
        if validation.cost_QA is not None and self.cost_ref is not None:
            mean_cost = float(validation.cost_QA.gather(1, arm_Q1).mean())
            metrics["validation_cost_usd_per_1k"] = 1000 * self.cost_ref * mean_cost
        return metrics

    def finish(self) -> None:
        """Give the policy the parameters that were kept."""
        self.policy.load_state_dict(self.selection.kept or self.average)

    def pack(self) -> dict[str, Any]:
        """All that persists between steps, for a checkpoint."""
        return {
            "step": self.step,
            "policy": self.policy.state_dict(),
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "calibration": self.state.pack(),
            "buffer": self.buffer_N,
            "selection": self.selection.pack(),
            "generator": self.generator.get_state(),
        }

    def restore(self, packed: dict[str, Any]) -> None:
        """Go on from what `pack` gave."""
        self.step = packed["step"]
        self.policy.load_state_dict(packed["policy"])
        self.average = packed["average"]
        self.optimizer.load_state_dict(packed["optimizer"])
        self.state = CalibrationState.unpack(packed["calibration"])
        self.buffer_N = packed["buffer"]
        self.selection = Selection(**packed["selection"])
        self.generator.set_state(packed["generator"])
