"""The bus without a server: a log in an SQLite file, and how far each group has read it.

Whoever is killed, the file is as it was after the last commit. A group's members are all in one
process: the partitions are theirs from the start, each one's own.
"""

from __future__ import annotations

import threading
import time
import zlib
from collections import defaultdict
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from example_app import sqlite
from example_app.events.bus import PARTITIONS, Delivery, Partition, Place, destination_of
from example_app.events.event import Event

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

_BATCH = 50
_POLL_S = 0.02
_LAYOUT = 2
_REMEDY = (
    "restore it from a backup, or move it away: events in it that are not handled are lost then"
)
_SCHEMA = f"""
CREATE TABLE log (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    destination TEXT NOT NULL, partition INTEGER NOT NULL, event BLOB NOT NULL
);
CREATE INDEX log_of_partition ON log (destination, partition, position);
CREATE TABLE progress (
    group_name TEXT, destination TEXT, partition INTEGER, position INTEGER NOT NULL,
    PRIMARY KEY (group_name, destination, partition)
);
PRAGMA user_version = {_LAYOUT}
"""


class SqlitePublisher:
    """A `Publisher` into the file `path`: all events of a call, or none."""

    system = "sqlite"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = _open(path, durable=True)
        self._lock = threading.Lock()

    def publish(self, events: Sequence[Event]) -> Sequence[Place]:
        """Add `events` in this order, all or none; return where each one is."""
        statement = "INSERT INTO log (destination, partition, event) VALUES (?, ?, ?)"
        rows = [(*_partition_of(event), msgspec.json.encode(event)) for event in events]
        with self._lock, sqlite.naming(self._path, _REMEDY):
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                offsets = [self._connection.execute(statement, row).lastrowid or 0 for row in rows]
        return [
            Place(Partition(destination, number), offset)
            for (destination, number, _), offset in zip(rows, offsets, strict=True)
        ]

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqliteConsumer:
    """A `Consumer` of the file `path`; of a group's members, each has partitions of its own.

    :param topics: of the events it is to see; it may see others too.
    :param partitions: by number.
    """

    system = "sqlite"

    def __init__(
        self,
        path: Path,
        group: str,
        topics: Iterable[str],
        partitions: Iterable[int] = range(PARTITIONS),
    ) -> None:
        self.group = group
        self._path = path
        # A commit lost to a power failure is an event delivered again.
        self._connection = _open(path, durable=False)
        destinations = sorted({destination_of(topic) for topic in topics})
        numbers = [*partitions]
        self._done = {Partition(it, number): 0 for it in destinations for number in numbers}
        query = "SELECT destination, partition, position FROM progress WHERE group_name = ?"
        with sqlite.naming(path, _REMEDY):
            progress = self._connection.execute(query, (group,)).fetchall()
        for destination, number, position in progress:
            partition = Partition(destination, number)
            if partition in self._done:
                self._done[partition] = position
        self._seen_all = False

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        """Return the events after the last one committed; wait up to `timeout_s` for the first."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = [it for partition in self._done for it in self._read(partition)]
            if found or time.monotonic() >= deadline:
                break
            time.sleep(_POLL_S)
        self._seen_all = not found
        return found

    def _read(self, partition: Partition) -> list[Delivery]:
        query = (
            "SELECT position, event FROM log WHERE destination = ? AND partition = ?"
            " AND position > ? ORDER BY position LIMIT ?"
        )
        with sqlite.naming(self._path, _REMEDY):
            rows = self._connection.execute(
                query, (*partition, self._done[partition], _BATCH)
            ).fetchall()
        return [
            Delivery(msgspec.json.decode(event, type=Event), Place(partition, position))
            for position, event in rows
        ]

    def commit(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these are done, and in their partitions all before them."""
        last: dict[Partition, int] = defaultdict(int)
        for _, (partition, offset) in deliveries:
            last[partition] = max(last[partition], offset)
        with sqlite.naming(self._path, _REMEDY):
            self._connection.execute("BEGIN IMMEDIATE")
            with self._connection:
                self._connection.executemany(
                    "INSERT OR REPLACE INTO progress VALUES (?, ?, ?, ?)",
                    [(self.group, *partition, offset) for partition, offset in last.items()],
                )
        self._done.update(last)

    def lag(self) -> int | None:
        """Return how many events are not done yet."""
        if self._seen_all:
            return 0
        query = "SELECT COUNT(*) FROM log WHERE destination = ? AND partition = ? AND position > ?"
        with sqlite.naming(self._path, _REMEDY):
            counted: list[int] = [
                self._connection.execute(query, (*partition, done)).fetchone()[0]
                for partition, done in self._done.items()
            ]
        return sum(counted)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()


class SqliteProgress:
    """A `Progress` that looks into the file `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def behind(self, groups: Iterable[str], topic: str) -> Mapping[str, int]:
        """Return how many events of the topic's destination each group has not handled."""
        query = (
            "SELECT COUNT(*) FROM log LEFT JOIN progress ON progress.group_name = ?"
            " AND progress.destination = log.destination AND progress.partition = log.partition"
            " WHERE log.destination = ? AND log.position > COALESCE(progress.position, 0)"
        )
        with (
            closing(_open(self._path, durable=False)) as connection,
            sqlite.naming(self._path, _REMEDY),
        ):
            return {
                group: connection.execute(query, (group, destination_of(topic))).fetchone()[0]
                for group in groups
            }

    def close(self) -> None:
        """Do nothing: the file is open only while it is looked into."""


def _partition_of(event: Event) -> Partition:
    number = zlib.crc32(event.key.encode()) % PARTITIONS
    return Partition(destination_of(event.topic), number)


def _open(path: Path, *, durable: bool) -> sqlite3.Connection:
    connection = sqlite.connect(path, durable=durable, remedy=_REMEDY)
    try:
        with sqlite.naming(path, _REMEDY):
            if _layout(connection) == 0:
                connection.execute("BEGIN IMMEDIATE")
                with connection:
                    _create(connection)
            found = _layout(connection)
    except BaseException:
        connection.close()
        raise
    if found != _LAYOUT:
        connection.close()
        raise sqlite.other_layout(path, found, _LAYOUT)
    return connection


def _create(connection: sqlite3.Connection) -> None:
    # Another process may have been faster, and the first version noted no layout.
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'log'").fetchone() is None:
        for statement in _SCHEMA.split(";"):
            connection.execute(statement)


def _layout(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found
