"""The training loop, its log and its checkpoints."""

from recal_bench.training.checkpoint import checkpoint_step

__all__ = ["checkpoint_step"]
