"""Calibration: from component rewards to advantages. Pure functions over numpy or torch arrays, see docs/recal.md."""

from recal_bench.calibration.choice import ESTIMATORS, estimate
from recal_bench.calibration.datasets import dataset_scales, normalise_datasets, observe_datasets, observe_scale
from recal_bench.calibration.estimators import (
    component_advantages,
    dapo,
    disco,
    dr_grpo,
    dvao,
    expected,
    gdpo,
    grpo,
    hero,
    lite_ppo,
    popart,
    reinforce,
    reinforce_pp,
    rloo,
    weighted_sum,
    whiten,
)
from recal_bench.calibration.moments import EPS, has_spread
from recal_bench.calibration.pipeline import Calibration, observe_spread, recal
from recal_bench.calibration.running import Running, observe
from recal_bench.calibration.state import Batch, CalibrationState
from recal_bench.calibration.weights import group_spread, observe_mean, relative_weights, variance_weights

__all__ = [
    "EPS",
    "ESTIMATORS",
    "Batch",
    "Calibration",
    "CalibrationState",
    "Running",
    "component_advantages",
    "dapo",
    "dataset_scales",
    "disco",
    "dr_grpo",
    "dvao",
    "estimate",
    "expected",
    "gdpo",
    "group_spread",
    "grpo",
    "has_spread",
    "hero",
    "lite_ppo",
    "normalise_datasets",
    "observe",
    "observe_datasets",
    "observe_mean",
    "observe_scale",
    "observe_spread",
    "popart",
    "recal",
    "reinforce",
    "reinforce_pp",
    "relative_weights",
    "rloo",
    "variance_weights",
    "weighted_sum",
    "whiten",
]
