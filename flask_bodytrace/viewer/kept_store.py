"""The store with a file beside it: what it holds is there again after a restart.

Searches, pages and bounds are those of the store in memory; the file, SQLite's, is written behind
it by one thread, and holds what the store holds: a trace that goes from the one goes from the
other, and so does a log record of no trace. So its size is bounded as the store's is.
"""

from __future__ import annotations

import logging
import sqlite3
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec

from .model import LogRecord, Span
from .packing import LOG, NOT_PACKED, SPAN, packed, packed_log, unpacked
from .store import Limits, TraceStore

_VERSION = 1
_APPLICATION = 0x626F6479
"""SQLite's application_id of these files: "body"."""
_BATCH = 4_096
_TABLES = """
CREATE TABLE IF NOT EXISTS resource (id INTEGER PRIMARY KEY, data BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, key TEXT NOT NULL, form TEXT NOT NULL,
    resource INTEGER, data BLOB NOT NULL, UNIQUE (trace_id, key) ON CONFLICT REPLACE
);
"""
_DELETE = {
    "gone": "DELETE FROM item WHERE trace_id = ?",
    "log": "DELETE FROM item WHERE trace_id = '' AND key = ?",
    "row": "DELETE FROM item WHERE number = ?",
}
"""What goes from the file, by the kind of change: a trace, a log record of no trace, or a row."""
_log = logging.getLogger("flask_bodytrace")
_Change = tuple[str, Any]
_Row = tuple[str, str, str, "int | None", bytes]


class CannotKeep(Exception):
    """The file is something else than a store, or damaged, or cannot be written."""


class KeptStore(TraceStore):
    """A store whose traces and log records are in a file too.

    :param path: the file; made if it is not there.
    :raises CannotKeep: it is something else, or damaged, or cannot be written.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._changes: SimpleQueue[_Change | None] = SimpleQueue()
        self._file = _open(path)
        self._number = 0
        """The last that a log record has in the file, which tells it from others."""
        self._alone: deque[int] = deque()
        """The numbers of those of no trace, as they came in."""
        self._read_number: int | None = None
        """While the file is read, the number of what is read; `_was_kept` says what came of it."""
        self._was_kept = False
        self._resources: dict[bytes, int] = {}
        try:
            self._read()
        except (sqlite3.Error, *NOT_PACKED) as error:
            self._file.close()
            raise CannotKeep(
                f"{path} is damaged ({type(error).__name__}: {error}): name another file"
            ) from None
        except BaseException:
            self._file.close()
            raise
        self._thread = Thread(target=self._write, name="bodytrace-store", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        """Take over what is in the file; what there is no room for goes from it."""
        for row, number, spans, logs in _read(self._file):
            self._number = max(self._number, number)
            self._read_number, self._was_kept = number, False
            super().add(spans, logs)
            if not self._was_kept:
                # There is nobody to write yet: what is put is written later.
                self._changes.put(("row", row))
        self._read_number = None

    def _kept(self, item: Span | LogRecord) -> None:
        self._was_kept = True
        if self._read_number is None:
            self._number += 1
            self._changes.put(("keep", (item, self._number)))

    def _gone(self, trace_id: str) -> None:
        self._changes.put(("gone", trace_id))

    def _logs_changed(self, kept: Sequence[LogRecord], gone: Sequence[LogRecord]) -> None:
        # Those of a trace come with it, and go with it. No trace takes the others along.
        for log in kept:
            if log.trace_id:
                continue
            self._kept(log)
            self._alone.append(self._number if self._read_number is None else self._read_number)
        for log in gone:
            if not log.trace_id:
                self._changes.put(("log", _log_key(self._alone.popleft())))

    def close(self) -> None:
        """Write what is left, and close the file."""
        self._changes.put(None)
        self._thread.join()

    def _write(self) -> None:
        with closing(self._file):
            while (change := self._changes.get()) is not None:
                batch = [change]
                while len(batch) < _BATCH and not self._changes.empty():
                    following = self._changes.get()
                    if following is None:
                        self._changes.put(None)
                        break
                    batch.append(following)
                try:
                    with self._file:
                        self._apply(batch)
                except sqlite3.Error as error:
                    _log.warning("the viewer's file could not be written: %s", error)

    def _apply(self, batch: Iterable[_Change]) -> None:
        rows: list[_Row] = []
        for what, given in batch:
            if what == "keep":
                rows.append(self._row(*given))
                continue
            # What goes may be among what came before it.
            self._insert(rows)
            rows = []
            self._file.execute(_DELETE[what], (given,))
        self._insert(rows)

    def _insert(self, rows: Sequence[_Row]) -> None:
        self._file.executemany(
            "INSERT INTO item (trace_id, key, form, resource, data) VALUES (?, ?, ?, ?, ?)", rows
        )

    def _row(self, item: Span | LogRecord, number: int) -> _Row:
        if isinstance(item, LogRecord):
            form, data = packed_log(item)
            # Log records have no id: each is one of its own.
            return item.trace_id, _log_key(number), form, None, data
        form, data = packed(item)
        resource = self._resource(item.resource) if form == SPAN else None
        return item.trace_id, item.span_id, form, resource, data

    def _resource(self, attributes: Mapping[str, Any]) -> int:
        data = msgspec.msgpack.encode(attributes)
        known = self._resources.get(data)
        if known is None:
            self._file.execute("INSERT OR IGNORE INTO resource (data) VALUES (?)", (data,))
            (known,) = self._file.execute(
                "SELECT id FROM resource WHERE data = ?", (data,)
            ).fetchone()
            self._resources[data] = int(known)
        return int(known)


def _log_key(number: int) -> str:
    return f"log {number}"


def _open(path: Path) -> sqlite3.Connection:
    try:
        file = sqlite3.connect(path, check_same_thread=False)
        try:
            _prepare(file, path)
        except BaseException:
            file.close()
            raise
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise CannotKeep(f"cannot keep traces in {path}: {error}") from None
    return file


def _prepare(file: sqlite3.Connection, path: Path) -> None:
    """Make the tables, unless it is a file of something else."""
    (application,) = file.execute("PRAGMA application_id").fetchone()
    (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if tables and application != _APPLICATION:
        raise CannotKeep(f"{path} is a database of something else: name another file")
    (version,) = file.execute("PRAGMA user_version").fetchone()
    if tables and version != _VERSION:
        raise CannotKeep(f"{path} is of another version of the viewer: name another file")
    file.execute("PRAGMA auto_vacuum = FULL")
    file.execute("PRAGMA journal_mode = WAL")
    # A crash of the machine may cost the last traces, never the file.
    file.execute("PRAGMA synchronous = NORMAL")
    file.execute(f"PRAGMA application_id = {_APPLICATION}")
    file.execute(f"PRAGMA user_version = {_VERSION}")
    file.executescript(_TABLES)
    # Of services that have long been started anew.
    with file:
        file.execute(
            "DELETE FROM resource WHERE id NOT IN "
            "(SELECT resource FROM item WHERE resource IS NOT NULL)"
        )


def _read(file: sqlite3.Connection) -> Iterator[tuple[int, int, list[Span], list[LogRecord]]]:
    """What is in the file: each with its row, and its number as a log record, 0 for a span."""
    resources = {
        number: msgspec.msgpack.decode(data)
        for number, data in file.execute("SELECT id, data FROM resource")
    }
    rows = file.execute("SELECT number, key, form, resource, data FROM item ORDER BY number")
    for row, key, form, resource, data in rows:
        # Files of before have a time between the two.
        number = int(key.split()[-1]) if form == LOG else 0
        yield row, number, *unpacked(form, data, resources.get(resource, {}))
