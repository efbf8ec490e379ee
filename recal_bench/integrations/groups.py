"""Advantages for engines that hand over one group at a time, such as prime-rl.

An engine with a hook for advantages shows it the rollouts of one prompt. What an estimator remembers of each dataset
and component then moves on group by group instead of batch by batch. Estimators that look at the whole batch in between
(GDPO, REINFORCE, REINFORCE++, Lite PPO, DAPO, DISCO) cannot be had so, and are refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from recal_bench.calibration import ESTIMATORS, Batch
from recal_bench.calibration.registry import NoSettings
from recal_bench.errors import SettingsError

WHOLE_BATCH = ("dapo", "disco", "gdpo", "lite-ppo", "reinforce", "reinforce-pp")


@dataclass
class GroupAdvantages:
    """An estimator that is shown one group after the other.

    `weights` are what a unit of each component is worth, by its name; `outcome` is the component that a query's
    uncertainty is about. `datasets` are known beforehand, for the state has a place for each. `settings` are those of
    the estimator (`floor`, `dataset_norm`, ...). Raises SettingsError on an estimator that needs more than a group, and
    on names that are not there.
    """

    estimator: str
    weights: Mapping[str, float]
    outcome: str
    datasets: Sequence[str]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import torch

        self._entry = ESTIMATORS[self.estimator]
        if self.estimator in WHOLE_BATCH or self._entry.all_actions:
            raise SettingsError(f"estimator {self.estimator} needs more than one group at a time: take recal or grpo")
        if self.outcome not in self.weights:
            raise SettingsError(f"outcome={self.outcome} is not among the components {', '.join(self.weights)}")
        if self.settings and self._entry.settings is NoSettings:
            raise SettingsError(f"estimator {self.estimator} has no settings: leave {', '.join(self.settings)} out")
        try:
            self._settings = self._entry.settings(**self.settings)
        except TypeError as error:
            raise SettingsError(f"estimator {self.estimator}: {error}") from error
        self._names = tuple(self.weights)
        like_K, like_D = torch.zeros(len(self._names)), torch.zeros(len(self.datasets))
        self._state = self._entry.start(like_K, like_D, self._settings)

    def __call__(self, components: Sequence[Mapping[str, float | None]], dataset: str) -> list[float]:
        """One advantage for each rollout of a group, in its order. A component that is None counts as missing.

        Raises SettingsError on a dataset that was not named, and on a rollout that lacks a component.
        """
        import torch

        if dataset not in self.datasets:
            raise SettingsError(f"dataset {dataset} is not among {', '.join(self.datasets)}: name it beforehand")
        absent = next((name for name in self._names if any(name not in each for each in components)), None)
        if absent is not None:
            raise SettingsError(f"a rollout has no component {absent}: give None where its reward is missing")
        values = [[each[name] for name in self._names] for each in components]
        reward_QGK = torch.tensor([[[float("nan") if value is None else value for value in row] for row in values]])
        outcome = self._names.index(self.outcome)
        batch = Batch(
            reward_QGK=reward_QGK,
            weight_K=torch.tensor([float(self.weights[name]) for name in self._names]),
            is_outcome_K=torch.arange(len(self._names)) == outcome,
            outcome_QG=reward_QGK[..., outcome],
            share_QG=torch.full(reward_QGK.shape[:2], 1 / len(components)),
            dataset_Q=torch.tensor([list(self.datasets).index(dataset)]),
            valid_QG=~reward_QGK.isnan().all(dim=-1),
        )
        advantage_QG, self._state = self._entry.compute(batch, self._state, self._settings)
        advantages: list[float] = advantage_QG[0].tolist()
        return advantages


_OF_PRIME_RL: dict[str, GroupAdvantages] = {}


def prime_rl_advantage(
    inputs: Any, estimator: str, weights: Mapping[str, float], outcome: str, datasets: Sequence[str], **settings: Any
) -> Any:
    """For prime-rl's `[advantage] type = "custom"`: name this function as `import_path`, and the other arguments as
    `kwargs`.

    `inputs.rollouts` are the rollouts of one example. The components are looked up in each one's `metrics`, the dataset
    is its `task`. The state lives in the process that computes advantages, and is not in prime-rl's checkpoints.
    """
    import json

    from prime_rl.orchestrator.advantage import AdvantageOutputs

    key = json.dumps([estimator, dict(weights), outcome, list(datasets), settings], sort_keys=True)
    if key not in _OF_PRIME_RL:
        _OF_PRIME_RL[key] = GroupAdvantages(estimator, weights, outcome, datasets, settings)
    rollouts = inputs.rollouts
    found = [{name: rollout["metrics"].get(name) for name in weights} for rollout in rollouts]
    return AdvantageOutputs(advantages=_OF_PRIME_RL[key](found, rollouts[0]["task"]))
