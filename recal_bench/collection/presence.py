"""Which collectors are alive: each holds a lock file beside the journal, which the system frees however it dies."""

from __future__ import annotations

import time
import uuid
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

_STALE_S = 60.0


class Presence:
    """This collector, as others on the same journal see it; and they, as it sees them."""

    def __init__(self, journal: Path) -> None:
        self._journal = journal
        self.name = uuid.uuid4().hex
        self._lock = FileLock(self._path(self.name))
        self._lock.acquire()
        self._clear()

    def close(self) -> None:
        self._lock.release()
        self.forget(self.name)

    def is_dead(self, collector: str) -> bool:
        """Whether a collector is gone."""
        lock = FileLock(self._path(collector))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return False
        lock.release()
        return True

    def forget(self, collector: str) -> None:
        """Remove what a collector that is gone has left."""
        self._path(collector).unlink(missing_ok=True)

    def _path(self, collector: str) -> Path:
        return self._journal.with_name(f"{self._journal.name}-{collector}.lock")

    def _clear(self) -> None:
        """Remove what killed collectors have left. A young lock file may be about to be taken."""
        for path in self._journal.parent.glob(f"{self._journal.name}-*.lock"):
            collector = path.name.removeprefix(f"{self._journal.name}-").removesuffix(".lock")
            with suppress(OSError):
                if time.time() - path.stat().st_mtime > _STALE_S and self.is_dead(collector):
                    path.unlink()
