"""The training loop, its log and its checkpoints."""

from recal_bench.training.checkpoint import checkpoint_step, digest_of, remove_checkpoint

__all__ = ["checkpoint_step", "digest_of", "remove_checkpoint"]
