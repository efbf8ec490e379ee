"""Transactions of the journal's database, and what went wrong in them in one line."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from recal_bench.errors import EndpointError, RecalBenchError


class Transaction:
    """Commits or rolls back; says in one line why it could not."""

    def __init__(self, database: sqlite3.Connection, path: Path) -> None:
        self._database, self._path = database, path

    def __enter__(self) -> None:
        try:
            self._database.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            try:
                self._database.execute("COMMIT")
                return
            except sqlite3.Error as caught:
                error = caught
        if self._database.in_transaction:
            self._database.execute("ROLLBACK")
        if isinstance(error, sqlite3.Error):
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> RecalBenchError:
        return EndpointError(
            f"the journal {self._path} cannot be written: {said(error)}; what it holds is safe, run the same command "
            "again when that is fixed"
        )


def said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())
