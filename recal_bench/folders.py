"""Where the shipped folders and the cache lie."""

from __future__ import annotations

import os
from pathlib import Path


def shipped(kind: str) -> Path:
    """The folder of shipped `baselines`, `pools` or `tasks`: inside the wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "shipped" / kind
    return inside if inside.is_dir() else package.parent / kind


def cache_folder() -> Path:
    """The user's cache folder, or the one that RECAL_BENCH_CACHE names."""
    import platformdirs

    return Path(os.environ.get("RECAL_BENCH_CACHE") or platformdirs.user_cache_dir("recal-bench"))
