"""Writing small sources."""

import json
from pathlib import Path


def write_lines(path: Path, records: list[dict]) -> Path:
    """A JSONL file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path
