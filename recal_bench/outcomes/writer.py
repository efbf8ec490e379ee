"""Writing an outcomes file: long parquet in one fixed schema, block by block, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recal_bench.errors import OutcomesError
from recal_bench.folders import written_whole
from recal_bench.outcomes.parts import UnusableError, parts_of
from recal_bench.outcomes.schema import TYPES

METADATA = b"recal-bench"


def write_outcomes(
    blocks: Iterable[Mapping[str, list[Any]]], path: Path, metadata: Mapping[str, Any] | None = None
) -> int:
    """Write rows to a parquet file; returns their number. A block is columns of equal length, a row group.

    All blocks have the same columns, of those in `outcomes.schema`. `metadata` (JSON) says where the rows come from.
    The file appears under its name when it is complete; memory holds one block.

    Raises OutcomesError where there is no row or the path names no parquet file, OSError where it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if path.suffix != ".parquet":
        raise OutcomesError(f"{path} is to hold outcomes: give it the extension .parquet")
    count, writer = 0, None
    with written_whole(path) as draft:
        try:
            for block in blocks:
                if writer is None:
                    fields = [(name, pa.type_for_alias(TYPES[name])) for name in TYPES if name in block]
                    schema = pa.schema(fields, {METADATA: json.dumps(dict(metadata or {}), sort_keys=True)})
                    writer = pq.ParquetWriter(draft, schema, compression="zstd")
                if set(block) != set(schema.names):
                    raise OutcomesError(
                        f"{path}: a block has the columns {', '.join(block)}: all need the same, known ones"
                    )
                table = pa.table({name: _storable(values) for name, values in block.items()}, schema=schema)
                writer.write_table(table, row_group_size=max(1, table.num_rows))
                count += table.num_rows
        finally:
            if writer is not None:
                writer.close()
        if not count:
            raise OutcomesError(f"{path} is not written: there is no outcome to write")
    return count


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_outcomes` was told of a file's origin; empty for a file that it did not write.

    Of a folder of such files what all were told alike; it is simulated where any of them is.
    """
    import pyarrow.parquet as pq

    if path.is_dir():
        try:
            told = [read_metadata(part.path) for part in parts_of(path)]
        except UnusableError:
            return {}
        alike = {name: value for name, value in told[0].items() if all(each.get(name) == value for each in told)}
        return alike | ({"simulated": True} if any(each.get("simulated") is True for each in told) else {})
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
