"""Writing an outcomes file: long parquet in one fixed schema, block by block, whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError

_TYPES = {
    "task": "string",
    "query_id": "string",
    "prompt": "string",
    "gold": "string",
    "model": "string",
    "strategy": "string",
    "score": "float64",
    "prompt_tokens": "int64",
    "completion_tokens": "int64",
    "reasoning_tokens": "int64",
    "cached_tokens": "int64",
    "cost_usd": "float64",
    "latency_s": "float64",
    "response": "string",
    "split": "string",
    "sample": "int64",
    "propensity": "float64",
    "finish_reason": "string",
    "served_model": "string",
    "usage": "string",
    "asked_at": "string",
}
"""The columns that are written, in their order, with their arrow types. Where a file has no value it is null."""

METADATA = b"recal-bench"


def write_outcomes(
    blocks: Iterable[Mapping[str, list[Any]]], path: Path, metadata: Mapping[str, Any] | None = None
) -> int:
    """Write rows to a parquet file; returns their number. A block is columns of equal length, a row group.

    All blocks have the same columns, of those in `_TYPES`. `gold` is a JSON list of the accepted answers. `metadata`
    (JSON) says where the rows come from. The file appears under its name when it is complete; memory holds one block.
    Raises OutcomesError where there is no row or the path names no parquet file, OSError where it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        raise OutcomesError(f"{path} is to hold outcomes: give it the extension .parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    draft, count, writer = Path(name), 0, None
    try:
        for block in blocks:
            if writer is None:
                fields = [(column, pa.type_for_alias(_TYPES[column])) for column in _TYPES if column in block]
                schema = pa.schema(fields, {METADATA: json.dumps(dict(metadata or {}), sort_keys=True)})
                writer = pq.ParquetWriter(draft, schema, compression="zstd")
            if set(block) != set(schema.names):
                raise OutcomesError(
                    f"{path}: a block has the columns {', '.join(block)}: all need the same, known ones"
                )
            table = pa.table({column: _storable(values) for column, values in block.items()}, schema=schema)
            writer.write_table(table, row_group_size=max(1, table.num_rows))
            count += table.num_rows
        if writer is None or not count:
            raise OutcomesError(f"{path} is not written: there is no outcome to write")
        writer.close()
        draft.chmod(0o666 & ~_umask())
        draft.replace(path)
    finally:
        if writer is not None:
            writer.close()
        draft.unlink(missing_ok=True)
    return count


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_outcomes` was told of a file's origin; empty for a file that it did not write."""
    import pyarrow.parquet as pq

    try:
        found = (pq.read_schema(path).metadata or {}).get(METADATA)
        return dict(json.loads(found)) if found else {}
    except (OSError, ValueError, TypeError):
        return {}


def _storable(values: list[Any]) -> list[Any]:
    """Half a surrogate pair in a text has no UTF-8."""
    try:
        for value in values:
            if isinstance(value, str):
                value.encode()
    except UnicodeEncodeError:
        return [value.encode("utf-8", "replace").decode() if isinstance(value, str) else value for value in values]
    return values


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
