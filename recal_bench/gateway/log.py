"""The log of decisions: an outcomes file of one arm a query (JSON lines), whose scores arrive later.

Beside it, in `NAME.apart.jsonl`, stand the requests that no off-policy estimate may use: their arm was not drawn with a
known probability among all arms, or it did not answer. Both files are readable by their owner alone.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import IO, Any

from recal_bench.errors import OutcomesError, SettingsError
from recal_bench.experiments.records import parse_line

APART = "why_apart"
"""The column of the rows apart that says why they are."""
_BEGIN = '{"score": '
_WIDTH = 8
"""Room for a score, which is written over `null` when it is known: `0.333333`."""
_DIGITS = 6


class DecisionLog:
    """Rows are added when a request is done, and their scores when somebody gives them, in place.

    So the file can be given to `run` at any time. Rows of an earlier process are found again: `usd` is what they cost
    together. An unfinished last line, of a process that was killed, is removed.

    Raises SettingsError where another process has the log, OutcomesError where the file is something else.
    """

    def __init__(self, path: Path) -> None:
        from filelock import FileLock, Timeout

        if path.suffix != ".jsonl":
            raise SettingsError(f"--log {path}: name it .jsonl, so that `recal-bench run --outcomes {path}` reads it")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            raise SettingsError(f"--log {path}: another process writes to it: name another file") from None
        self.path, self.apart = path, path.with_name(f"{path.stem}.apart.jsonl")
        self.usd = 0.0
        self._files: list[IO[bytes]] = []
        self._places: dict[str, tuple[int, int]] = {}
        try:
            for file in (self.path, self.apart):
                self._open(file)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        """The number of rows, those apart included."""
        return len(self._places)

    def add(self, row: dict[str, Any], why_apart: str | None = None) -> None:
        """Add a request's row, which has a `query_id` and no score yet. Raises OSError where it cannot be written."""
        number = 0 if why_apart is None else 1
        file = self._files[number]
        more = {} if why_apart is None else {APART: why_apart}
        rest = json.dumps(row | more, ensure_ascii=False).encode("utf-8", "replace")
        line = f"{_BEGIN}{'null':{_WIDTH}}, ".encode() + rest[1:] + b"\n"
        place = file.seek(0, os.SEEK_END)
        if file.write(line) != len(line):
            file.truncate(place)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._places[row["query_id"]] = number, place

    def score(self, query_id: str, score: float) -> bool:
        """Set the score of a request, over an earlier one. False where the log does not know the request."""
        found = self._places.get(query_id)
        if found is None:
            return False
        number, place = found
        file = self._files[number]
        file.seek(place + len(_BEGIN))
        file.write(f"{round(score, _DIGITS) + 0.0:<{_WIDTH}.{_DIGITS}g}".encode()[:_WIDTH])
        return True

    def close(self) -> None:
        for file in self._files:
            file.close()
        self._lock.release()

    def _open(self, path: Path) -> None:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        # Without a buffer: what was written survives the process.
        file: IO[bytes] = os.fdopen(handle, "r+b", buffering=0)
        self._files.append(file)
        place = 0
        with path.open("rb") as reading:
            for number, line in enumerate(reading, start=1):
                if not line.endswith(b"\n"):
                    file.truncate(place)
                    break
                row = parse_line(line)
                if row is None or not line.startswith(_BEGIN.encode()) or not isinstance(row.get("query_id"), str):
                    raise OutcomesError(f"{path}, line {number:,} is not of a log that serve wrote: name another --log")
                self._places[row["query_id"]] = len(self._files) - 1, place
                self.usd += row.get("cost_usd") or 0.0
                place += len(line)
