"""The bus without a server: a log in an SQLite file, and how far each group has read it.

One consumer a group. Whoever is killed, the file is as it was after the last commit.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import msgspec

from example_app import sqlite
from example_app.events.bus import Delivery
from example_app.events.event import Event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Sequence
    from pathlib import Path

_BATCH = 50
_POLL_S = 0.02
_SCHEMA = """
CREATE TABLE IF NOT EXISTS log (position INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
CREATE TABLE IF NOT EXISTS progress (group_name TEXT PRIMARY KEY, position INTEGER NOT NULL);
"""


class SqlitePublisher:
    """A `Publisher` into the file `path`."""

    system = "sqlite"

    def __init__(self, path: Path) -> None:
        self._connection = _open(path, durable=True)
        self._lock = threading.Lock()

    def publish(self, events: Sequence[Event]) -> None:
        """Add `events` in this order, all or none."""
        rows = [(msgspec.json.encode(event),) for event in events]
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                self._connection.executemany("INSERT INTO log (event) VALUES (?)", rows)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqliteConsumer:
    """A `Consumer` of the file `path`; for one thread."""

    system = "sqlite"

    def __init__(self, path: Path, group: str) -> None:
        self.group = group
        # A commit lost to a power failure is an event delivered again.
        self._connection = _open(path, durable=False)
        query = "SELECT position FROM progress WHERE group_name = ?"
        row = self._connection.execute(query, (group,)).fetchone()
        self._position: int = row[0] if row else 0

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        """Return the events after the last one committed; wait up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        query = "SELECT position, event FROM log WHERE position > ? ORDER BY position LIMIT ?"
        while True:
            rows = self._connection.execute(query, (self._position, _BATCH)).fetchall()
            if rows or time.monotonic() >= deadline:
                break
            time.sleep(_POLL_S)
        return [Delivery(msgspec.json.decode(event, type=Event), at) for at, event in rows]

    def commit(self, delivery: Delivery) -> None:
        """Note that `delivery` and all before it are done."""
        self._connection.execute(
            "INSERT INTO progress VALUES (?, ?)"
            " ON CONFLICT (group_name) DO UPDATE SET position = excluded.position",
            (self.group, delivery.position),
        )
        self._position = delivery.position

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


def _open(path: Path, *, durable: bool) -> sqlite3.Connection:
    connection = sqlite.connect(path, durable=durable)
    connection.executescript(_SCHEMA)
    return connection
