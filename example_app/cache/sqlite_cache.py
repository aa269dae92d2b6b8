"""A cachelib cache in an SQLite file, for all processes of one machine.

cachelib's own file cache adds in two steps, looking and then writing, so two processes could both
take a nonce for new. Here adding is one statement.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec
from cachelib.base import BaseCache

from example_app import sqlite

if TYPE_CHECKING:
    from datetime import timedelta
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cache (key TEXT PRIMARY KEY, value BLOB NOT NULL, until REAL NOT NULL);
CREATE INDEX IF NOT EXISTS cache_until ON cache (until);
"""
_PRUNE_EVERY = 1000


class SqliteCache(BaseCache):
    """Keeps values in the file `path`.

    :param default_timeout: seconds, where none are given.
    """

    def __init__(self, path: Path, default_timeout: int = 300) -> None:
        super().__init__(default_timeout)
        self._lock = threading.Lock()
        self._writes = 0
        self._connection = sqlite.connect(path, durable=False)
        self._connection.executescript(_SCHEMA)

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""
        with self._lock:
            row = self._connection.execute(
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
        with self._lock:
            return bool(
                self._connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount
            )

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        return self.get(key) is not None

    def clear(self) -> bool:
        """Drop all values."""
        with self._lock:
            self._connection.execute("DELETE FROM cache")
        return True

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def _write(self, replace: str, key: str, value: Any, timeout: int | timedelta | None) -> bool:
        """Write a value; over one that is there only where the condition `replace` holds."""
        now = time.time()
        until = now + self._normalize_timeout(timeout)
        row = {"key": key, "value": msgspec.json.encode(value), "until": until, "now": now}
        with self._lock:
            self._writes += 1
            if self._writes % _PRUNE_EVERY == 0:
                self._connection.execute("DELETE FROM cache WHERE until <= ?", (now,))
            written = self._connection.execute(
                "INSERT INTO cache VALUES (:key, :value, :until) ON CONFLICT (key) DO UPDATE"  # noqa: S608 - the condition is one of two above
                f" SET value = excluded.value, until = excluded.until WHERE {replace}",
                row,
            )
            return bool(written.rowcount)
