"""The journal of a collection: every answer that was paid for, kept under a hash of what was asked.

SQLite in WAL mode. An answer is committed before its collector goes on, so a killed process loses nothing that it had
received; a power cut can take the commits of the last second. Several collectors may share a journal: a request is
claimed before it is sent, a claim ends with its collector (whose lock file the system frees, however it died), and a
claim that ended without an answer is remembered as possibly billed.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

from recal_bench.collection.answer import Answer
from recal_bench.collection.presence import Presence
from recal_bench.collection.transactions import Transaction, said
from recal_bench.errors import EndpointError

_APPLICATION = 0x52434C4A
_VERSION = 2
_SINCE_VERSION_2 = ("written_tokens INTEGER", "billed_usd REAL")
_WAIT_S = 60.0
_PAUSE_S = 0.01
_MAGIC = b"SQLite format 3\0"
_IN_ONE_QUERY = 500
_OTHER_LENGTH = 64
"""Texts that differ by this many characters cannot all have the same number of tokens."""
_SCHEMA = f"""
CREATE TABLE answers(
  key BLOB PRIMARY KEY, model TEXT NOT NULL, strategy TEXT NOT NULL, body TEXT NOT NULL, prompt_tokens INTEGER,
  completion_tokens INTEGER, reasoning_tokens INTEGER, cached_tokens INTEGER, usage TEXT NOT NULL,
  prompt_chars INTEGER NOT NULL, response_chars INTEGER NOT NULL, finish_reason TEXT, latency_s REAL, asked_at TEXT,
  {", ".join(_SINCE_VERSION_2)});
CREATE TABLE claims(key BLOB PRIMARY KEY, collector TEXT NOT NULL, most_usd REAL NOT NULL);
CREATE TABLE unsure(key BLOB NOT NULL, reason TEXT NOT NULL, most_usd REAL NOT NULL);
CREATE TABLE refused(key BLOB PRIMARY KEY, model TEXT NOT NULL, reason TEXT NOT NULL);
"""


class Spent(NamedTuple):
    """Sums over the answers of one model and strategy; tokens as reported, of the answers that report them."""

    model: str
    strategy: str
    with_usage: int
    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int
    cached_tokens: int
    written_tokens: int = 0
    billed_usd: float = 0.0


class Journal:
    """An open journal file. One collector's view of it: use it from one thread, and close it."""

    def __init__(self, path: Path) -> None:
        """Open or create it. Raises EndpointError where the path is not a journal or cannot be written."""
        # One name, whatever link or folder it is seen from: other collectors are found by it.
        self.path = path = path.resolve()
        with ExitStack() as opened:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                if not path.exists():
                    # For its owner alone: it holds prompts and replies. SQLite gives its other files the same mode.
                    os.close(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600))
                self._database = sqlite3.connect(path, timeout=_WAIT_S, isolation_level=None)
                opened.callback(self._database.close)
                self._open()
                self._presence = Presence(path)
                opened.callback(self._presence.close)
                self.forget_the_dead()
            except (sqlite3.Error, OSError) as error:
                raise EndpointError(f"the journal {path} cannot be opened: {said(error)}") from error
            self._close = opened.pop_all().close

    def _open(self) -> None:
        with self.path.open("rb") as file:
            start = file.read(len(_MAGIC))
        if start and start != _MAGIC:
            raise EndpointError(f"{self.path} is a file of something else: name another journal")
        named = self._one("PRAGMA application_id") or self._one("PRAGMA user_version")
        if not named and not self._one("SELECT count(*) FROM sqlite_schema"):
            self._into_wal_mode()
            self._database.execute("BEGIN IMMEDIATE")
            if not self._one("SELECT count(*) FROM sqlite_schema"):
                for statement in filter(str.strip, _SCHEMA.split(";")):
                    self._database.execute(statement)
                self._database.execute(f"PRAGMA application_id = {_APPLICATION}")
                self._database.execute(f"PRAGMA user_version = {_VERSION}")
            self._database.execute("COMMIT")
        if self._one("PRAGMA application_id") != _APPLICATION:
            raise EndpointError(f"{self.path} is a database of something else: name another journal")
        if self._one("PRAGMA user_version") == 1:
            self._update()
        if self._one("PRAGMA user_version") != _VERSION:
            raise EndpointError(f"{self.path} was written by another version of recal-bench: name another journal")
        self._database.execute("PRAGMA synchronous = NORMAL")

    def _update(self) -> None:
        """Give a journal of version 1 the columns that came later."""
        with self._writing():
            if self._one("PRAGMA user_version") == 1:
                for column in _SINCE_VERSION_2:
                    self._database.execute(f"ALTER TABLE answers ADD COLUMN {column}")
                self._database.execute(f"PRAGMA user_version = {_VERSION}")

    def _into_wal_mode(self) -> None:
        """Others may be opening the same new file: SQLite does not wait by itself here."""
        started = time.monotonic()
        while True:
            try:
                self._database.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() - started > _WAIT_S:
                    raise
                time.sleep(_PAUSE_S)

    def close(self) -> None:
        self._close()

    def answered(self, keys: Sequence[bytes], estimates: bool) -> set[bytes]:
        """Those of the keys that have an answer. Without `estimates`, one that reports no usage does not count."""
        found: set[bytes] = set()
        for start in range(0, len(keys), _IN_ONE_QUERY):
            part = keys[start : start + _IN_ONE_QUERY]
            marks = ",".join("?" * len(part))
            counted = "" if estimates else " AND usage NOT IN ('missing', 'zero')"
            rows = self._read(f"SELECT key FROM answers WHERE key IN ({marks}){counted}", part)
            found.update(row[0] for row in rows)
        return found

    def answers(self, keys: Sequence[bytes]) -> dict[bytes, Answer]:
        """The answers to the keys, of those that have one."""
        found: dict[bytes, Answer] = {}
        for start in range(0, len(keys), _IN_ONE_QUERY):
            part = keys[start : start + _IN_ONE_QUERY]
            rows = self._read(f"SELECT * FROM answers WHERE key IN ({','.join('?' * len(part))})", part)
            found |= {row[0]: Answer(*row) for row in rows}
        return found

    def claim(self, key: bytes, most_usd: float, estimates: bool) -> bool:
        """Reserve a request for this collector; False where another one has it, or it has been answered meanwhile."""
        with self._writing():
            if self.answered([key], estimates):
                return False
            done = self._database.execute(
                "INSERT OR IGNORE INTO claims VALUES (?, ?, ?)", (key, self._presence.name, most_usd)
            )
            return done.rowcount == 1

    def keep(self, answer: Answer) -> None:
        """Write an answer down; its claim ends. An answer without usage gives way to one that has it."""
        marks = ",".join("?" * len(answer))
        values = [_storable(value) for value in answer]
        with self._writing():
            self._database.execute(f"INSERT OR REPLACE INTO answers VALUES ({marks})", values)
            self._database.execute("DELETE FROM claims WHERE key = ?", (answer.key,))
            self._database.execute("DELETE FROM refused WHERE key = ?", (answer.key,))

    def refuse(self, key: bytes, model: str, reason: str) -> None:
        """Write down that a request got no answer and why; its claim ends, and a later collection asks again."""
        with self._writing():
            self._database.execute("INSERT OR REPLACE INTO refused VALUES (?, ?, ?)", (key, model, _storable(reason)))
            self._database.execute("DELETE FROM claims WHERE key = ?", (key,))

    def release(self, key: bytes) -> None:
        """Give a claim back, of a request that was not sent."""
        with self._writing():
            self._database.execute("DELETE FROM claims WHERE key = ?", (key,))

    def unsure(self, key: bytes, reason: str, most_usd: float) -> None:
        """Write down that a request was sent and no usable answer came: it may have been billed."""
        with self._writing():
            self._database.execute("INSERT INTO unsure VALUES (?, ?, ?)", (key, reason, most_usd))

    def forget_the_dead(self) -> int:
        """End the claims of collectors that are gone; what they had sent may have been billed. Returns their number."""
        owners = [row[0] for row in self._read("SELECT DISTINCT collector FROM claims")]
        lost = 0
        for owner in owners:
            if owner == self._presence.name or not self._presence.is_dead(owner):
                continue
            with self._writing():
                lost += self._database.execute(
                    "INSERT INTO unsure SELECT key, 'killed', most_usd FROM claims WHERE collector = ?", (owner,)
                ).rowcount
                self._database.execute("DELETE FROM claims WHERE collector = ?", (owner,))
            self._presence.forget(owner)
        return lost

    def spent_since(self, seen: int, tiers: Sequence[int] = ()) -> tuple[int, list[Spent]]:
        """What the answers after a mark used, by model and strategy, and the new mark. The first mark is 0.

        Answers with more prompt tokens than one of `tiers`, and not more than the next, are summed apart.
        """
        newest = int(self._one("SELECT coalesce(max(rowid), 0) FROM answers"))
        sums = ", ".join(
            f"coalesce(sum({name}), 0)"
            for name in (
                "prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens", "written_tokens",
                "billed_usd",
            )
        )  # fmt: skip
        apart = "".join(", prompt_tokens > ?" for _ in tiers)
        rows = self._read(
            f"SELECT model, strategy, count(*), {sums} FROM answers "
            "WHERE rowid > ? AND rowid <= ? AND usage NOT IN ('missing', 'zero', 'moderated') "
            f"GROUP BY model, strategy{apart}",
            (seen, newest, *tiers),
        )
        return newest, [Spent(*row) for row in rows]

    def unsure_usd(self) -> float:
        """The most that requests without a usable answer can have cost."""
        return float(self._one("SELECT coalesce(sum(most_usd), 0.0) FROM unsure"))

    def claimed_usd(self) -> float:
        """The most that the requests can cost which are under way, this collector's and others'."""
        return float(self._one("SELECT coalesce(sum(most_usd), 0.0) FROM claims"))

    def claims(self) -> int:
        """How many requests are under way, this collector's and others'."""
        return int(self._one("SELECT count(*) FROM claims"))

    def unsure_counts(self) -> dict[str, int]:
        """How many requests may have been billed without an answer, by reason."""
        return dict(self._read("SELECT reason, count(*) FROM unsure GROUP BY reason ORDER BY reason"))

    def refusals(self) -> list[tuple[str, int, str]]:
        """Model, number of requests without an answer, and one reason, for each model that has some."""
        query = "SELECT model, count(*), min(reason) FROM refused GROUP BY model ORDER BY model"
        return [(str(model), int(count), str(reason)) for model, count, reason in self._read(query)]

    def has_answer_of(self, model: str) -> bool:
        """Whether the model has answered anything."""
        query = "SELECT 1 FROM answers WHERE model = ? AND usage <> 'moderated' LIMIT 1"
        return bool(self._read(query, (model,)))

    def constant_usage(self, fewest: int) -> dict[str, str]:
        """Models whose reported tokens do not change although texts do: `prompt` or `completion`, by model."""
        found: dict[str, str] = {}
        for side, chars in (("prompt", "prompt_chars"), ("completion", "response_chars")):
            rows = self._read(
                f"SELECT model FROM answers WHERE usage NOT IN ('missing', 'moderated') "
                "AND finish_reason IS NOT 'length' GROUP BY model "
                f"HAVING count(*) >= ? AND count(DISTINCT {side}_tokens) = 1 AND max({chars}) - min({chars}) >= ?",
                (fewest, _OTHER_LENGTH),
            )
            found |= {str(row[0]): side for row in rows}
        return found

    def _one(self, query: str) -> float:
        value: float = self._read(query)[0][0]
        return value

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise EndpointError(f"the journal {self.path} cannot be read: {said(error)}") from error

    def _writing(self) -> Transaction:
        return Transaction(self._database, self.path)


def _storable(value: Any) -> Any:
    """Half a surrogate pair (a model cut off within an emoji) has no UTF-8."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def placed(journal: Path | None, out: Path) -> Path:
    """The journal's path: the one given, else one beside the outcomes file."""
    return journal or out.with_suffix(".journal")
