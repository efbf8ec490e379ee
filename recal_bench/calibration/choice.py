"""Estimators by name, with the running quantities that some of them keep."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recal_bench.calibration import estimators
from recal_bench.calibration.datasets import observe_datasets
from recal_bench.calibration.pipeline import Calibration, recal
from recal_bench.calibration.state import DECAY, Batch, CalibrationState
from recal_bench.calibration.weights import group_spread, observe_mean

# From the batch and its summed reward to advantages, both [Q, G].
STATELESS: dict[str, Callable[[Batch, Any], Any]] = {
    "reinforce": lambda batch, total_QG: estimators.reinforce(total_QG, batch.valid_QG),
    "reinforce-pp": lambda batch, total_QG: estimators.reinforce_pp(total_QG, batch.valid_QG),
    "rloo": lambda batch, total_QG: estimators.rloo(total_QG, batch.valid_QG),
    "grpo": lambda batch, total_QG: estimators.grpo(total_QG, batch.valid_QG),
    "dr-grpo": lambda batch, total_QG: estimators.dr_grpo(total_QG, batch.valid_QG),
    "lite-ppo": lambda batch, total_QG: estimators.lite_ppo(total_QG, batch.valid_QG),
    "dapo": lambda batch, total_QG: estimators.dapo(total_QG, batch.outcome_QG, batch.valid_QG),
    "gdpo": lambda batch, _: estimators.gdpo(batch.reward_QGK, batch.weight_K, batch.valid_QG),
    "dvao": lambda batch, _: estimators.dvao(batch.reward_QGK, batch.weight_K, batch.valid_QG),
    "expected": lambda batch, total_QG: estimators.expected(total_QG, batch.share_QG, batch.valid_QG),
}
ESTIMATORS = (*STATELESS, "disco", "hero", "popart", "recal")


def estimate(
    name: str, batch: Batch, outcome: int, state: CalibrationState, settings: Calibration
) -> tuple[Any, CalibrationState]:
    """Advantages `[Q, G]` by the estimator of that name, and the state after the batch.

    The batch enters the running quantities before they are used. `outcome` is the number of the outcome component;
    `settings` are those of `recal` alone. Raises KeyError for a name that is not in `ESTIMATORS`.
    """
    if name == "recal":
        return recal(batch, outcome, state, settings)
    total_QG = estimators.weighted_sum(batch.reward_QGK, batch.weight_K)
    outcome_QG, dataset_Q, valid_QG = batch.outcome_QG, batch.dataset_Q, batch.valid_QG
    if name == "disco":
        n_datasets = state.scale_D.total_N.shape[0]
        return estimators.disco(total_QG, outcome_QG, dataset_Q, n_datasets, valid_QG), state
    if name == "hero":
        spread_Q = group_spread(outcome_QG, estimators.usable(outcome_QG, valid_QG))
        state = state._replace(outcome_spread_1=observe_mean(state.outcome_spread_1, spread_Q, DECAY))
        return estimators.hero(total_QG, outcome_QG, state.outcome_spread_1.value_N[0], valid_QG), state
    if name == "popart":
        known_QG = estimators.usable(total_QG, valid_QG)
        state = state._replace(
            reward_D=observe_datasets(state.reward_D, total_QG, dataset_Q, known_QG, DECAY),
            square_D=observe_datasets(state.square_D, total_QG**2, dataset_Q, known_QG, DECAY),
        )
        return estimators.popart(total_QG, dataset_Q, state.reward_D, state.square_D, valid_QG), state
    return STATELESS[name](batch, total_QG), state
