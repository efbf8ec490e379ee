"""The dense view of a large file, kept on the disk and mapped into memory when the same file is read again.

Reading fifty million rows takes most of a minute of one core; mapping their arrays takes none. What is kept is named by
the content of the file, by what is read of it, and by the code that reads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recal_bench import table_files
from recal_bench.folders import cache_folder, sha256
from recal_bench.outcomes.dense import Arm, Outcomes
from recal_bench.outcomes.files import read_outcomes
from recal_bench.outcomes.parts import UnusableError, parts_of
from recal_bench.outcomes.reading import Reading
from recal_bench.table_files import stem

LEAST_BYTES, LEAST_OUTCOMES = 1 << 20, 2_000_000
"""Below them a file is read faster than it is worth to keep."""
_TEXTS = ("task_Q", "query_id_Q", "prompt_Q", "split_Q")
_META, _ARROW = "meta.json", "texts.arrow"
_DAMAGED = (OSError, ValueError, TypeError, KeyError, EOFError)


def read_kept(path: Path, responses: bool, others: Sequence[str], reading: Reading) -> Outcomes:
    """As `read_outcomes`. The arrays of a large file are mapped: what is written into them is not kept.

    Responses and features are read from the file each time.
    """
    kept = None if responses or reading.features else _folder(path, others, reading)
    if kept is None:
        return read_outcomes(path, responses, others, reading)
    with contextlib.suppress(*_DAMAGED):
        return replace(_load(kept), name=stem(path))
    outcomes = read_outcomes(path, responses, others, reading)
    if outcomes.score_QA.size >= LEAST_OUTCOMES:
        with contextlib.suppress(OSError):
            _keep(outcomes, kept)
    return outcomes


def _folder(path: Path, others: Sequence[str], reading: Reading) -> Path | None:
    """Where the outcomes are kept; None where the file is small, or cannot be read."""
    try:
        parts = [(each.label, each.path) for each in parts_of(path)] if path.is_dir() else [("", path)]
        if sum(file.stat().st_size for _, file in parts) < LEAST_BYTES:
            return None
        digest = hashlib.sha256(repr((_code(), path.suffixes[-2:], tuple(others), reading)).encode())
        for label, file in parts:
            digest.update(f"{label}\0{sha256(file)}\n".encode())
    except (OSError, UnusableError):
        return None
    return cache_folder() / "outcomes" / digest.hexdigest()[:32]


def _code() -> str:
    """The hash of what turns a file into outcomes."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), Path(table_files.__file__)]
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


def _keep(outcomes: Outcomes, kept: Path) -> None:
    import pyarrow as pa

    kept.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{kept.name}-", dir=kept.parent))
    try:
        values = {each.name: getattr(outcomes, each.name) for each in fields(outcomes)}
        columns = dict(values.pop("column_QA"))
        texts = {name: values.pop(name) for name in _TEXTS}
        arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
        arrays |= {f"column-{number}": value for number, value in enumerate(columns.values())}
        others = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        for name, array in arrays.items():
            np.save(draft / f"{name}.npy", array, allow_pickle=False)
        table = pa.table({name: pa.array(text_Q, pa.large_string()) for name, text_Q in texts.items()})
        with pa.OSFile(str(draft / _ARROW), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
            writer.write_table(table)
        meta = {"values": others, "arrays": [*arrays], "columns": [*columns]}
        (draft / _META).write_text(json.dumps(meta), encoding="utf-8")
        shutil.rmtree(kept, ignore_errors=True)
        draft.rename(kept)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _load(kept: Path) -> Outcomes:
    import pyarrow as pa

    meta = json.loads((kept / _META).read_text(encoding="utf-8"))
    values: dict[str, Any] = meta["values"]
    values |= {"arms": tuple(Arm(*each) for each in values["arms"]), "notes": tuple(values["notes"])}
    arrays = {
        name: np.asarray(np.load(kept / f"{name}.npy", mmap_mode="c", allow_pickle=False)) for name in meta["arrays"]
    }
    columns = {name: arrays.pop(f"column-{number}") for number, name in enumerate(meta["columns"])}
    with pa.memory_map(str(kept / _ARROW)) as source:
        table = pa.ipc.open_file(source).read_all()
        texts = {name: table[name].combine_chunks().dictionary_encode() for name in _TEXTS}
        text_Q = {
            name: coded.dictionary.to_numpy(zero_copy_only=False)[coded.indices.to_numpy()]
            for name, coded in texts.items()
        }
    outcomes = Outcomes(**(values | arrays | text_Q | {"column_QA": columns}))
    if len({len(each) for each in (*text_Q.values(), *arrays.values(), *columns.values())}) != 1:
        raise ValueError("arrays of different lengths")
    return outcomes
