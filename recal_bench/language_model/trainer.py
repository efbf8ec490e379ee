"""TRL's GRPO trainer with advantages from our estimators. The one file that touches what TRL calls private.

TRL 1.16 has no hook for component-wise advantages with a state for each dataset. Its `_calculate_rewards` returns the
rewards of all processes, component by component, while groups are still in order; `_generate_and_score_completions`
then ends with one advantage for each rollout, which is replaced here; only later are rollouts shuffled.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor
from trl import GRPOTrainer

from recal_bench.calibration import Batch, Estimator
from recal_bench.errors import SettingsError
from recal_bench.training.seeds import leaves, like

OVERRIDDEN = {
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_generate_single_turn": ("self", "prompt_ids", "images", "multimodal_fields", "num_generations"),
}
"""What we override or call of the trainer, with the parameters that we count on."""
ROW, ARM, WELL_FORMED, REWARDS = "row", "arm", "well_formed", "component_rewards"
"""Columns: of the dataset the query's row; of the rollouts what `rollouts.Rollouts` says of each."""


class Judged(NamedTuple):
    """The rollouts of one step in all processes, `[N]`, N = Q x G with the groups of queries one after the other."""

    row_N: Tensor
    arm_N: Tensor
    well_formed_N: Tensor
    reward_NK: Tensor
    advantage_N: Tensor


@dataclass
class Advantages:
    """From component rewards to advantages: an estimator, its settings, and what it remembers between steps.

    `dataset_Q` is the dataset of each train row; `weight_K` what a unit of each component is worth, `outcome` the
    number of the component that a query's uncertainty is about. With `every_action` groups hold every action, and a
    call says how probable each is.
    """

    estimator: Estimator
    settings: Any
    weight_K: Sequence[float]
    outcome: int
    dataset_Q: Tensor
    state: Any = None
    every_action: bool = False

    def __post_init__(self) -> None:
        """Raises SettingsError on an estimator that needs the probability of every action."""
        if self.estimator.all_actions and not self.every_action:
            raise SettingsError(
                f"estimator {self.estimator.name} needs every action's probability, and a language model's replies are "
                "drawn: use decode=arms, or another estimator"
            )
        if self.state is None:
            like_K, like_D = torch.zeros(len(self.weight_K)), torch.zeros(int(self.dataset_Q.max()) + 1)
            self.state = self.estimator.start(like_K, like_D, self.settings)

    def __call__(
        self, reward_NK: Tensor, row_N: Tensor, group_size: int, remember: bool, share_QG: Tensor | None = None
    ) -> Tensor:
        """One advantage a rollout, `[N]`. The state moves on only where it is to `remember`. `share_QG` is how much of
        its query each is worth: all the same where it is not given."""
        device, n_components = reward_NK.device, reward_NK.shape[1]
        reward_QGK = reward_NK.view(-1, group_size, n_components).float().cpu()
        weight_K = torch.tensor(self.weight_K)
        batch = Batch(
            reward_QGK=reward_QGK,
            weight_K=weight_K,
            is_outcome_K=torch.arange(n_components) == self.outcome,
            outcome_QG=reward_QGK[..., self.outcome],
            share_QG=torch.full(reward_QGK.shape[:2], 1 / group_size) if share_QG is None else share_QG.cpu(),
            dataset_Q=self.dataset_Q[row_N.cpu().view(-1, group_size)[:, 0]],
            valid_QG=~reward_QGK.isnan().all(dim=-1),
        )
        advantage_QG, state = self.estimator.compute(batch, self.state, self.settings)
        if remember:
            self.state = state
        advantage_N: Tensor = advantage_QG.reshape(-1).to(device)
        return advantage_N

    def pack(self) -> list[Tensor]:
        """What a checkpoint holds of it."""
        return leaves(self.state)

    def restore(self, tensors: Sequence[Tensor]) -> None:
        """Go on from what `pack` gave."""
        self.state = like(self.state, tensors)


def require_known_trainer(trainer: type[Any] = GRPOTrainer) -> None:
    """Raises SettingsError where TRL's trainer is not the one that this file was written for."""
    for name, expected in OVERRIDDEN.items():
        method = getattr(trainer, name, None)
        found = tuple(inspect.signature(method).parameters) if method else ()
        if found[: len(expected)] != expected:
            raise SettingsError(
                f"TRL's GRPOTrainer.{name} is not the one that recal-bench was written for (parameters "
                f"{', '.join(found) or 'none'}): install trl>=1.16,<1.17"
            )


class ComponentTrainer(GRPOTrainer):  # type: ignore[misc, unused-ignore]
    """A GRPOTrainer whose advantages are those of `advantages`. `watch` is told of every training step's rollouts.

    The dataset has the column `row`; each reward function gives one component, NaN (None) where it is missing.
    """

    def __init__(self, *args: Any, advantages: Advantages, watch: Callable[[Judged], None], **kwargs: Any) -> None:
        require_known_trainer()
        self.advantages, self.watch = advantages, watch
        self.rows: list[int] = []
        self._rewards = self._told = torch.zeros(0)
        super().__init__(*args, **kwargs)

    def _calculate_rewards(self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: Any) -> Tensor:
        reward_NK = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        told_N3 = torch.tensor(
            [[each[ROW], each.get(ARM, 0), each.get(WELL_FORMED, True)] for each in inputs], device=reward_NK.device
        )
        self._rewards, self._told = reward_NK, self.accelerator.gather(told_N3)
        return self._rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self.rows = [each[ROW] for each in inputs]
        scored: dict[str, Any] = super()._generate_and_score_completions(inputs)
        training = bool(self.model.training)
        mode, group_size = ("train", self.num_generations) if training else ("eval", self.num_generations_eval)
        row_N, arm_N, well_formed_N = self._told.unbind(dim=1)
        advantage_N = self.advantages(self._rewards, row_N, group_size, remember=training)
        begin = self.accelerator.process_index * len(inputs)
        scored["advantages"] = advantage_N[begin : begin + len(inputs)]
        logged = list(self._logs["advantages"])[: -len(advantage_N)]
        self._logs["advantages"].clear()
        self._logs["advantages"].extend([*logged, *advantage_N.tolist()])
        flat_Q = (advantage_N.view(-1, group_size) == 0).all(dim=1)
        self._metrics[mode]["frac_reward_zero_std"][-1] = flat_Q.float().mean().item()
        if training:
            self.watch(Judged(row_N, arm_N, well_formed_N.bool(), self._rewards, advantage_N))
        return scored
