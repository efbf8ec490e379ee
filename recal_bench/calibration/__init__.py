"""Calibration: from component rewards to advantages. Pure functions over numpy or torch arrays, see docs/recal.md."""

from recal_bench.calibration.advantages import (
    component_advantages,
    dr_grpo,
    gdpo,
    grpo,
    observe_spread,
    weighted_sum,
    whiten,
)
from recal_bench.calibration.datasets import dataset_scales, normalise_datasets, observe_scale
from recal_bench.calibration.moments import EPS, has_spread
from recal_bench.calibration.pipeline import Calibration, CalibrationState, calibrate
from recal_bench.calibration.running import Running, observe
from recal_bench.calibration.weights import group_spread, observe_mean, relative_weights, variance_weights

__all__ = [
    "EPS",
    "Calibration",
    "CalibrationState",
    "Running",
    "calibrate",
    "component_advantages",
    "dataset_scales",
    "dr_grpo",
    "gdpo",
    "group_spread",
    "grpo",
    "has_spread",
    "normalise_datasets",
    "observe",
    "observe_mean",
    "observe_scale",
    "observe_spread",
    "relative_weights",
    "variance_weights",
    "weighted_sum",
    "whiten",
]
