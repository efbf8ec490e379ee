"""Checkpoints of a fit: written atomically, read without pickle's code execution, tied to one configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

NAME = "checkpoint.pt"


def write_checkpoint(folder: Path, content: dict[str, Any]) -> None:
    """Replace the folder's checkpoint in one step. `content`: dictionaries and lists of tensors, numbers, strings."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{NAME}"
    with unfinished.open("wb") as file:
        torch.save(content, file)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(folder / NAME)


def read_checkpoint(folder: Path) -> dict[str, Any] | None:
    """The folder's checkpoint; None where there is none or it cannot be read."""
    path = folder / NAME
    if not path.exists():
        return None
    import pickle

    import torch

    try:
        content: dict[str, Any] = torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError):
        return None
    return content


def checkpoint_step(folder: Path) -> int:
    """How many steps the folder's checkpoint holds; 0 where there is none. A fit logs one line a step."""
    content = read_checkpoint(folder)
    return int(content["step"]) if content else 0


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint, when the fit is over."""
    (folder / NAME).unlink(missing_ok=True)
