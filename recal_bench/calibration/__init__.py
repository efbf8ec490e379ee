"""Calibration: from component rewards to advantages. Pure functions over numpy or torch arrays, see docs/recal.md."""

from recal_bench.calibration import shipped as _shipped  # noqa: F401  registers what it holds
from recal_bench.calibration.components import COMPONENTS, Component, Drawn, component
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
    usable,
    whiten,
)
from recal_bench.calibration.moments import EPS, divide, has_spread, weighted_sum
from recal_bench.calibration.pipeline import Calibration, CalibrationState, observe_spread, recal
from recal_bench.calibration.registry import ESTIMATORS, Estimator, Spread, estimator, with_settings_of
from recal_bench.calibration.running import Running, observe
from recal_bench.calibration.state import Batch
from recal_bench.calibration.weights import group_spread, observe_mean, relative_weights, variance_weights

__all__ = [
    "COMPONENTS",
    "EPS",
    "ESTIMATORS",
    "Batch",
    "Calibration",
    "CalibrationState",
    "Component",
    "Drawn",
    "Estimator",
    "Running",
    "Spread",
    "component",
    "component_advantages",
    "dapo",
    "dataset_scales",
    "disco",
    "divide",
    "dr_grpo",
    "dvao",
    "estimator",
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
    "usable",
    "variance_weights",
    "weighted_sum",
    "whiten",
    "with_settings_of",
]
