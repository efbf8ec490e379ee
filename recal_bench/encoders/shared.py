"""Encoders that several saved routers share: one file, named by the hash of its content, for all of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from recal_bench.errors import SettingsError
from recal_bench.folders import naming

FILE = "encoder.npz"
"""What an encoder is saved as."""
REFERENCE = "encoder.json"
"""What stands in its place where it is shared: `{"sha256": ...}`."""
STORE = "encoders"
"""The folder, beside those of the runs, that holds the shared files."""
_LEVELS = 6


def share_encoders(saved: Path, beside: Path) -> None:
    """Move the encoders that lie below a saved router's folder into the store of a folder, and refer to them there."""
    for path in sorted(saved.rglob(FILE)):
        digest = _digest(path)
        stored = beside / STORE / f"{digest}.npz"
        stored.parent.mkdir(exist_ok=True)
        with naming(path):
            path.replace(stored)
            path.with_name(REFERENCE).write_text(json.dumps({"sha256": digest}) + "\n", encoding="utf-8")


def find_encoder(folder: Path) -> Path:
    """The file of the encoder that was saved in a folder: there, or in the store of a folder above it.

    Raises SettingsError where there is none, or where a shared one is not what it was.
    """
    if (folder / FILE).exists() or not (folder / REFERENCE).exists():
        return folder / FILE
    digest = _referred(folder / REFERENCE)
    for above in list(folder.resolve().parents)[:_LEVELS]:
        stored = above / STORE / f"{digest}.npz"
        if not stored.exists():
            continue
        if _digest(stored) != digest:
            raise SettingsError(f"{stored} is damaged: run the router again with --fresh")
        return stored
    raise SettingsError(
        f"{folder} shares its encoder with other runs, and {STORE}/{digest}.npz is not beside it: copy that file from "
        "the folder that the run came from, or run the router again with --fresh"
    )


def unused_encoders(runs: Path) -> list[Path]:
    """The files of a folder's store that no run of it refers to, those at work included."""
    referred = {_referred(path) for path in runs.glob(f"*/**/{REFERENCE}")}
    return [path for path in sorted((runs / STORE).glob("*.npz")) if path.stem not in referred]


def _referred(path: Path) -> str:
    try:
        return str(json.loads(path.read_text(encoding="utf-8"))["sha256"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise SettingsError(f"{path} names no encoder: run the router again with --fresh") from error


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
