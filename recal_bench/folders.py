"""Where the shipped folders lie."""

from __future__ import annotations

from pathlib import Path


def shipped(kind: str) -> Path:
    """The folder of shipped `baselines` or `tasks`: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind
