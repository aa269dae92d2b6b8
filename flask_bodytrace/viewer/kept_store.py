"""The store with a file beside it: what it holds is there again after a restart.

Searches, pages and bounds are those of the store in memory; the file, SQLite's, is written behind
it by one thread, and holds what the store holds: a trace that goes from the one goes from the
other. So its size is bounded as the store's is.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any

import msgspec

from .model import LogRecord, Span
from .packing import SPAN, packed, packed_log, unpacked
from .store import Limits, TraceStore

_VERSION = 1
_APPLICATION = 0x626F6479
"""SQLite's application_id of these files: "body"."""
_BATCH = 512
_TABLES = """
CREATE TABLE IF NOT EXISTS resource (id INTEGER PRIMARY KEY, data BLOB NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS item (
    number INTEGER PRIMARY KEY, trace_id TEXT NOT NULL, key TEXT NOT NULL, form TEXT NOT NULL,
    resource INTEGER, data BLOB NOT NULL, UNIQUE (trace_id, key) ON CONFLICT REPLACE
);
"""
_log = logging.getLogger("flask_bodytrace")
_Change = tuple[str, Any]


class CannotKeep(Exception):
    """The file is something else than a store, or cannot be written."""


class KeptStore(TraceStore):
    """A store whose traces are in a file too.

    :param path: the file; made if it is not there.
    :raises CannotKeep: it is something else, or cannot be written.
    """

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        super().__init__(limits)
        self._changes: SimpleQueue[_Change | None] = SimpleQueue()
        self._file = _open(path)
        self._numbers = 0
        self._resources: dict[bytes, int] = {}
        for spans, logs in _read(self._file):
            super().add(spans, logs)
        self._thread = Thread(target=self._write, name="bodytrace-store", daemon=True)
        self._thread.start()

    def add(self, spans: Iterable[Span], logs: Iterable[LogRecord] = ()) -> None:
        """Keep spans and log records, also in the file, soon."""
        spans, logs = list(spans), list(logs)
        # Those of no trace would stay in the file for ever: nothing that goes takes them along.
        self._changes.put(("add", (spans, [log for log in logs if log.trace_id])))
        super().add(spans, logs)

    def _gone(self, trace_id: str) -> None:
        # While the file is read, there is nobody to write yet; what is put is written later.
        self._changes.put(("gone", trace_id))

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
                        for what, given in batch:
                            self._apply(what, given)
                except sqlite3.Error as error:
                    _log.warning("the viewer's file could not be written: %s", error)

    def _apply(self, what: str, given: Any) -> None:
        if what == "gone":
            self._file.execute("DELETE FROM item WHERE trace_id = ?", (given,))
            return
        spans, logs = given
        self._file.executemany(
            "INSERT INTO item (trace_id, key, form, resource, data) VALUES (?, ?, ?, ?, ?)",
            [self._row(span) for span in spans] + [self._log_row(log) for log in logs],
        )

    def _row(self, span: Span) -> tuple[str, str, str, int | None, bytes]:
        form, data = packed(span)
        resource = self._resource(span.resource) if form == SPAN else None
        return span.trace_id, span.span_id, form, resource, data

    def _log_row(self, log: LogRecord) -> tuple[str, str, str, None, bytes]:
        self._numbers += 1
        form, data = packed_log(log)
        # Log records have no id: each is one of its own.
        return log.trace_id, f"log {log.time} {self._numbers}", form, None, data

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


def _open(path: Path) -> sqlite3.Connection:
    try:
        file = sqlite3.connect(path, check_same_thread=False)
        (application,) = file.execute("PRAGMA application_id").fetchone()
        (tables,) = file.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and application != _APPLICATION:
            file.close()
            raise CannotKeep(f"{path} is a database of something else: name another file")
        (version,) = file.execute("PRAGMA user_version").fetchone()
        if tables and version != _VERSION:
            file.close()
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
    except sqlite3.Error as error:
        raise CannotKeep(f"cannot keep traces in {path}: {error}") from None
    return file


def _read(file: sqlite3.Connection) -> Iterator[tuple[list[Span], list[LogRecord]]]:
    resources = {
        number: msgspec.msgpack.decode(data)
        for number, data in file.execute("SELECT id, data FROM resource")
    }
    rows = file.execute("SELECT form, resource, data FROM item ORDER BY number")
    for form, resource, data in rows:
        yield unpacked(form, data, resources.get(resource, {}))
