"""Per-dataset normalisation: advantages of every dataset (task) brought to one scale."""

from __future__ import annotations

from typing import Any

from array_api_compat import array_namespace

from recal_bench.calibration.moments import EPS, divide, segment_sum
from recal_bench.calibration.running import Running, observe


def observe_scale(running_D: Running, advantage_QG: Any, dataset_Q: Any, valid_QG: Any, decay: float) -> Running:
    """Follow each dataset's mean square advantage by an EMA; `count_N` counts valid rollouts.

    Advantages centred in their group have mean 0 in every dataset, so the mean square is their variance (ddof 0).
    """
    xp = array_namespace(advantage_QG)
    size = running_D.total_N.shape[0]
    square_QG = xp.where(valid_QG, advantage_QG**2, xp.zeros_like(advantage_QG))
    count_D = segment_sum(xp.sum(xp.astype(valid_QG, advantage_QG.dtype), axis=1), dataset_Q, size)
    square_D = segment_sum(xp.sum(square_QG, axis=1), dataset_Q, size)
    return observe(running_D, divide(square_D, count_D), count_D, decay)


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
