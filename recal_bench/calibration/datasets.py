"""Per-dataset quantities: running scales, and advantages of every dataset (task) brought to one scale."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace, device

from recal_bench.calibration.moments import EPS, divide, segment_sum
from recal_bench.calibration.running import Running, observe


def dataset_means(value_Q: Any, dataset_Q: Any, count: int, weight_Q: Any = None) -> tuple[Any, Any]:
    """Each dataset's (weighted) mean and its total weight, `[count]` both; 0 for a dataset without any."""
    xp = array_namespace(value_Q)
    weight_Q = xp.ones_like(value_Q) if weight_Q is None else weight_Q
    weight_D = segment_sum(weight_Q, dataset_Q, count)
    return divide(segment_sum(value_Q * weight_Q, dataset_Q, count), weight_D), weight_D


def dataset_minima(value_QG: Any, dataset_Q: Any, valid_QG: Any, otherwise_D: Any) -> Any:
    """Each dataset's least valid value, `[D]`; that of `otherwise_D` for a dataset without any."""
    xp = array_namespace(value_QG)
    above_QG = xp.where(valid_QG, value_QG, xp.full_like(value_QG, float("inf")))
    member_QD = dataset_Q[:, None] == xp.arange(otherwise_D.shape[0], device=device(value_QG))[None, :]
    least_Q1 = xp.min(above_QG, axis=1, keepdims=True)
    least_D = xp.min(xp.where(member_QD, least_Q1, xp.full_like(least_Q1, float("inf"))), axis=0)
    return xp.where(xp.isfinite(least_D), least_D, otherwise_D)


def observe_datasets(running_D: Running, value_QG: Any, dataset_Q: Any, valid_QG: Any, decay: float) -> Running:
    """Follow each dataset's mean value over its valid rollouts by an EMA; `count_N` counts valid rollouts."""
    xp = array_namespace(value_QG)
    count_Q = xp.sum(xp.astype(valid_QG, value_QG.dtype), axis=1)
    total_Q = xp.sum(xp.where(valid_QG, value_QG, xp.zeros_like(value_QG)), axis=1)
    mean_D, count_D = dataset_means(divide(total_Q, count_Q), dataset_Q, running_D.total_N.shape[0], count_Q)
    return observe(running_D, mean_D, count_D, decay)


def observe_scale(running_D: Running, advantage_QG: Any, dataset_Q: Any, valid_QG: Any, decay: float) -> Running:
    """Follow each dataset's mean square advantage.

    Advantages centred in their group have mean 0 in every dataset, so the mean square is their variance (ddof 0).
    """
    return observe_datasets(running_D, advantage_QG**2, dataset_Q, valid_QG, decay)


def dataset_scales(running_D: Running, least_count: float = 0.0, cap: float = float("inf"), eps: float = EPS) -> Any:
    """What to divide each dataset's advantages by, `[D]`: `max(scale_d, scale / cap) + eps`.

    `scale_d` is the running standard deviation of dataset d, `scale` their quadratic mean over the datasets seen. So no
    dataset is amplified more than `cap` times as much as one scale for all would do (groups without spread shrink
    `scale_d`, which would blow up what is left of nearly solved or hopeless datasets), and a dataset with fewer than
    `least_count` rollouts so far is divided by `scale`.
    """
    xp = array_namespace(running_D.total_N)
    square_D, seen_D = running_D.value_N, running_D.count_N > 0
    scale = xp.sqrt(divide(xp.sum(square_D), xp.sum(xp.astype(seen_D, square_D.dtype))))
    scale_D = xp.maximum(xp.sqrt(square_D), scale / cap * xp.ones_like(square_D))
    return xp.where(running_D.count_N >= least_count, scale_D, scale * xp.ones_like(square_D)) + eps


def normalise_datasets(advantage_QG: Any, dataset_Q: Any, scale_D: Any) -> Any:
    """`Ahat_ij = A_ij / scale_{d(i)}`."""
    return divide(advantage_QG, scale_D[dataset_Q][:, None])
