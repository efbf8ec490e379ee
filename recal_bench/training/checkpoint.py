"""Checkpoints of a fit: written atomically, read without pickle's code execution, tied to one configuration."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from recal_bench.folders import written_whole
from recal_bench.routers import Train

NAME = "checkpoint.pt"


def digest_of(described: Any, splits: Sequence[Train], columns: Sequence[str]) -> str:
    """A hash of all that determines what is trained: what JSON can hold of it, the splits, their named columns."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for split in splits:
        outcomes = split.outcomes
        arms = [str(arm) for arm in outcomes.arms]
        digest.update(json.dumps([split.queries, list(outcomes.task_Q), arms, vars(split.objective)]).encode())
        for value_QA in (outcomes.score_QA, outcomes.cost_QA, *(outcomes.column_QA[name] for name in columns)):
            digest.update(value_QA.tobytes())
    return digest.hexdigest()


def write_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Replace the folder's checkpoint in one step. `content`: dictionaries and lists of tensors, numbers, strings."""
    import torch

    with written_whole(folder / NAME, sync=True) as draft:
        torch.save(content, draft)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint; None where there is none or it cannot be read."""
    path = folder / NAME
    if not path.exists():
        return None
    import torch

    try:
        content: Any = torch.load(path, weights_only=True)
    except Exception:  # what torch raises on a damaged file is of many kinds, and none of them is promised
        return None
    kinds = {"configuration": str, "step": int, "learner": dict}
    whole = isinstance(content, dict) and all(isinstance(content.get(name), kind) for name, kind in kinds.items())
    return content if whole and content["step"] > 0 else None


def checkpoint_step(folder: Path) -> int:
    """How many steps the folder's checkpoint holds; 0 where there is none. A fit logs one line a step."""
    content = read_checkpoint(folder)
    return int(content["step"]) if content else 0


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint, when the fit is over, and the drafts of writers that were killed."""
    for path in [folder / NAME, *folder.glob(f".{NAME}.*")]:
        path.unlink(missing_ok=True)
