"""A cachelib cache in an SQLite file, for all processes of one machine.

cachelib's own file cache adds in two steps, looking and then writing, so two processes could both
take a nonce for new. Here adding is one statement.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import msgspec
from cachelib.base import BaseCache

from example_app import sqlite

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from datetime import timedelta
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, until REAL NOT NULL);
CREATE INDEX IF NOT EXISTS cache_until ON cache (until);
"""
_PRUNE_EVERY = 1000
_REMEDY = "move it away; nonces of the last 24 hours can be used again then"


class SqliteCache(BaseCache):
    """Keeps values in the file `path`; each call raises `DatabaseUnavailable` where that is broken.

    :param default_timeout: seconds, where none are given.
    :raises DatabaseUnavailable: it is locked, broken or no database.
    """

    def __init__(self, path: Path, default_timeout: int = 300) -> None:
        super().__init__(default_timeout)
        self._lock = threading.Lock()
        self._path = path
        self._writes = 0
        self._connection = sqlite.connect(path, durable=False, remedy=_REMEDY)
        try:
            with self._locked() as connection:
                connection.executescript(_SCHEMA)
        except BaseException:
            self.close()
            raise

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""
        with self._locked() as connection:
            row = connection.execute(
                "SELECT value FROM cache WHERE key = ? AND until > ?", (key, time.time())
            ).fetchone()
        return None if row is None else msgspec.json.decode(row[0])

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Keep a value for `timeout` seconds."""
        return self._write("TRUE", key, value, timeout)

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Keep a value unless there is one; False if there is."""
        return self._write("until <= :now", key, value, timeout)

    def delete(self, key: str) -> bool:
        """Drop a value; False if there is none."""
        with self._locked() as connection:
            return bool(connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount)

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return self.get(key) is not None

    def clear(self) -> bool:
        """Drop all values."""
        with self._locked() as connection:
            connection.execute("DELETE FROM cache")
        return True

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    @contextmanager
    def _locked(self) -> Iterator[sqlite3.Connection]:
        with self._lock, sqlite.naming(self._path, _REMEDY):
            yield self._connection

    def _write(self, replace: str, key: str, value: Any, timeout: int | timedelta | None) -> bool:
        """Write a value; over one that is there only where the condition `replace` holds."""
        now = time.time()
        until = now + self._normalize_timeout(timeout)
        row = {"key": key, "value": msgspec.json.encode(value), "until": until, "now": now}
        with self._locked() as connection:
            self._writes += 1
            if self._writes % _PRUNE_EVERY == 0:
                connection.execute("DELETE FROM cache WHERE until <= ?", (now,))
            written = connection.execute(
                "INSERT INTO cache VALUES (:key, :value, :until) ON CONFLICT (key) DO UPDATE"  # noqa: S608 - the condition is one of two above
                f" SET value = excluded.value, until = excluded.until WHERE {replace}",
                row,
            )
            return bool(written.rowcount)
