"""The calibration of ReCal, step by step: component advantages, variance-aware weights, per-dataset scales."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from array_api_compat import array_namespace, device
from pydantic import NonNegativeFloat, PositiveFloat

from recal_bench.calibration.advantages import component_advantages, observe_spread, weighted_sum, whiten
from recal_bench.calibration.datasets import dataset_scales, normalise_datasets, observe_scale
from recal_bench.calibration.moments import centre
from recal_bench.calibration.running import Running
from recal_bench.calibration.weights import group_spread, observe_mean, relative_weights, variance_weights

DECAY = 0.95
LEAST_COUNT = 256


@dataclass
class Calibration:
    """Which parts of the calibration are on.

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


@dataclass(frozen=True)
class CalibrationState:
    """What persists between steps: running spread of each component, mean outcome spread, scale of each dataset."""

    spread_K: Running
    outcome_spread_1: Running
    scale_D: Running

    @classmethod
    def empty(cls, like_K: Any, like_D: Any) -> CalibrationState:
        """A state that has seen nothing, for K components (one where they are summed up) and D datasets."""
        return cls(Running.empty(like_K), Running.empty(like_K[:1]), Running.empty(like_D))

    def pack(self) -> dict[str, dict[str, Any]]:
        """Plain nested dictionaries of arrays, for a checkpoint."""
        return asdict(self)

    @classmethod
    def unpack(cls, packed: dict[str, dict[str, Any]]) -> CalibrationState:
        return cls(**{name: Running(**fields) for name, fields in packed.items()})


def calibrate(
    reward_QGK: Any,
    weight_K: Any,
    outcome: int,
    dataset_Q: Any,
    valid_QG: Any,
    state: CalibrationState,
    settings: Calibration,
) -> tuple[Any, CalibrationState]:
    """`Ahat_ij = (sum_k weight_k sigma_k w_ik z_ijk) / scale_{d(i)}`, `[Q, G]`, and the state after the batch.

    `z` are the component advantages. With `keep_utility`, `sigma_k` is the running spread of component k and `w_ik` is
    the variance-aware weight for the component numbered `outcome`, with mean 1 over the groups where it has any spread,
    and 1 for the others. Without it `sigma_k` is 1 and all components of a query have its weight. The batch enters the
    running quantities before they are used.
    """
    xp = array_namespace(reward_QGK)
    spread_Q = group_spread(reward_QGK[..., outcome], valid_QG)
    if not settings.components:
        reward_QGK, weight_K, outcome = weighted_sum(reward_QGK, weight_K)[..., None], xp.ones_like(weight_K[:1]), 0

    spread_K = observe_spread(state.spread_K, reward_QGK, valid_QG, DECAY)
    if settings.standardise:
        advantage_QGK = component_advantages(reward_QGK, valid_QG, settings.floor * spread_K.value_N)
        if settings.keep_utility:
            weight_K = weight_K * spread_K.value_N
    else:
        advantage_QGK = centre(reward_QGK, valid_QG[..., None], axis=1)

    outcome_spread_1 = observe_mean(state.outcome_spread_1, spread_Q, DECAY)
    if settings.reweighting:
        inverse = settings.reweighting == "inverse"
        weight_Q1 = variance_weights(spread_Q, outcome_spread_1.value_N[0], inverse=inverse)[:, None]
        if settings.keep_utility and settings.components:
            is_outcome_K = xp.arange(weight_K.shape[0], device=device(weight_K)) == outcome
            weight_Q1 = relative_weights(weight_Q1, spread_Q[:, None] > 0)
            weight_QK = xp.where(is_outcome_K, weight_Q1, xp.ones_like(weight_Q1))
            advantage_QGK = advantage_QGK * weight_QK[:, None, :]
        else:
            advantage_QGK = advantage_QGK * weight_Q1[:, None, :]
    advantage_QG = weighted_sum(advantage_QGK, weight_K)

    scale_D = observe_scale(state.scale_D, advantage_QG, dataset_Q, valid_QG, DECAY)
    if settings.dataset_norm == "batch":
        advantage_QG = whiten(advantage_QG, valid_QG)
    elif settings.dataset_norm:
        advantage_QG = normalise_datasets(advantage_QG, dataset_Q, dataset_scales(scale_D, LEAST_COUNT, settings.cap))
    return advantage_QG, CalibrationState(spread_K, outcome_spread_1, scale_D)
