"""The calibration of ReCal, step by step: component advantages, variance-aware weights, per-dataset scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from array_api_compat import array_namespace
from pydantic import NonNegativeFloat, PositiveFloat

from recal_bench.calibration.datasets import dataset_scales, normalise_datasets, observe_scale
from recal_bench.calibration.estimators import standardised, usable, whiten
from recal_bench.calibration.moments import divide, moments, weighted_sum
from recal_bench.calibration.registry import estimator
from recal_bench.calibration.running import Running, observe
from recal_bench.calibration.state import DECAY, Batch
from recal_bench.calibration.weights import group_spread, observe_mean, relative_weights, variance_weights

LEAST_COUNT = 256


@dataclass
class Calibration:
    """Which steps of ReCal's calibration are on.

    components    an advantage for each reward component; off: one for their weighted sum
    standardise   divide an advantage by its group's spread; off: only subtract the group's mean
    keep_utility  keep the components' exchange rate: what standardising took from a component is given back on
                  average, and uncertainty reweights the outcome alone
    floor         least spread to divide by, relative to the component's running spread
    reweighting   variance-aware weights; `inverse` favours the certain queries instead
    dataset_norm  one scale for every dataset; `batch` whitens over the batch instead
    cap           most that per-dataset normalisation may amplify a dataset beyond one scale for all
    """

    components: bool = True
    standardise: bool = True
    keep_utility: bool = True
    floor: NonNegativeFloat = 0.5
    reweighting: bool | Literal["inverse"] = True
    dataset_norm: bool | Literal["batch"] = True
    cap: PositiveFloat = 3.0


class CalibrationState(NamedTuple):
    """Running spread of each component, mean outcome spread, and the scale of each dataset's advantages."""

    spread_K: Running
    outcome_spread_1: Running
    scale_D: Running

    @classmethod
    def empty(cls, like_K: Any, like_D: Any, settings: Calibration) -> CalibrationState:
        """A state that has seen nothing, for K components (one where they are summed) and D datasets."""
        of_components = like_K if settings.components else like_K[:1]
        return cls(Running.empty(of_components), Running.empty(like_K[:1]), Running.empty(like_D))


def advantage_scales(state: CalibrationState) -> dict[str, Any]:
    """The running standard deviation of each dataset's advantages, for the log."""
    value_D = state.scale_D.value_N
    return {"advantage_scale": array_namespace(value_D).sqrt(value_D)}


@estimator(
    "recal",
    "advantages by component, variance-aware weights, a scale for each task",
    state=CalibrationState.empty,
    settings=Calibration,
    watch=advantage_scales,
)
def recal(batch: Batch, state: CalibrationState, settings: Calibration) -> tuple[Any, CalibrationState]:
    """`Ahat_ij = (sum_k weight_k sigma_k w_ik z_ijk) / scale_{d(i)}`, `[Q, G]`, and the state after the batch.

    `z` are the component advantages. With `keep_utility`, `sigma_k` is the running spread of component k and `w_ik` is
    the variance-aware weight for the outcome component, with mean 1 over the groups where it has any spread, and 1 for
    the others. Without it `sigma_k` is 1 and all components of a query have its weight. The batch enters the
    running quantities before they are used. Where components are off, their sum takes their place.
    """
    reward_QGK, weight_K, dataset_Q, valid_QG = batch.reward_QGK, batch.weight_K, batch.dataset_Q, batch.valid_QG
    xp = array_namespace(reward_QGK)
    if not settings.components:
        reward_QGK = batch.total_QG[..., None]
        weight_K = xp.ones_like(reward_QGK[0, 0, :])

    advantage_QGK, std_Q1K = moments(reward_QGK, usable(reward_QGK, valid_QG), axis=1)
    spread_K = observe_spread(state.spread_K, std_Q1K, DECAY)
    if settings.standardise:
        advantage_QGK = standardised(advantage_QGK, std_Q1K, settings.floor * spread_K.value_N)
        if settings.keep_utility:
            weight_K = weight_K * spread_K.value_N

    spread_Q = group_spread(batch.outcome_QG, usable(batch.outcome_QG, valid_QG))
    outcome_spread_1 = observe_mean(state.outcome_spread_1, spread_Q, DECAY)
    if settings.reweighting:
        inverse = settings.reweighting == "inverse"
        weight_Q = variance_weights(spread_Q, outcome_spread_1.value_N[0], inverse=inverse)
        if settings.keep_utility and settings.components:
            weight_Q = relative_weights(weight_Q, spread_Q > 0)
            weight_QK = xp.where(batch.is_outcome_K, weight_Q[:, None], xp.ones_like(weight_Q[:, None]))
            advantage_QGK = advantage_QGK * weight_QK[:, None, :]
        else:
            advantage_QGK = advantage_QGK * weight_Q[:, None, None]
    advantage_QG = weighted_sum(advantage_QGK, weight_K)

    scale_D = observe_scale(state.scale_D, advantage_QG, dataset_Q, valid_QG, DECAY)
    if settings.dataset_norm == "batch":
        advantage_QG = whiten(advantage_QG, valid_QG)
    elif settings.dataset_norm:
        advantage_QG = normalise_datasets(advantage_QG, dataset_Q, dataset_scales(scale_D, LEAST_COUNT, settings.cap))
    return advantage_QG, CalibrationState(spread_K, outcome_spread_1, scale_D)


def observe_spread(running_K: Running, std_Q1K: Any, decay: float) -> Running:
    """Follow each component's typical spread: the EMA of its mean standard deviation over the groups that have any."""
    xp = array_namespace(std_Q1K)
    count_K = xp.sum(xp.astype(std_Q1K > 0, std_Q1K.dtype), axis=(0, 1))
    return observe(running_K, divide(xp.sum(std_Q1K, axis=(0, 1)), count_K), count_K, decay)
