"""What every arm scored and cost on every query: the dense view, the objective, files and splits."""

from recal_bench.outcomes.dense import Arm, Outcomes
from recal_bench.outcomes.objective import Objective, mean_over_observed

__all__ = ["Arm", "Objective", "Outcomes", "mean_over_observed"]
