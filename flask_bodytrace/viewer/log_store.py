"""The log records that came last, whether of a trace or of none, within a bound of bytes."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from msgspec import Struct

from .model import LogRecord, weigh


class Entry(Struct, frozen=True):
    """A log record, and its number: records have no id of their own."""

    number: int
    record: LogRecord


class LogStore:
    """Over the bound, the record that came first goes. Whoever calls holds a lock.

    :param size: bytes, as `weigh` estimates them; a record that is larger is not kept.
    """

    def __init__(self, size: int) -> None:
        self._limit = size
        self._entries: deque[tuple[Entry, int]] = deque()
        self._size = 0
        self._number = 0

    def add(self, records: Iterable[LogRecord]) -> tuple[list[LogRecord], list[LogRecord]]:
        """Keep log records; gives those that are kept, and those that had to go, in order."""
        kept: list[LogRecord] = []
        gone: list[LogRecord] = []
        for record in records:
            size = weigh(record)
            if size > self._limit:
                continue
            self._number += 1
            self._entries.append((Entry(self._number, record), size))
            kept.append(record)
            self._size += size
            while self._size > self._limit:
                first, freed = self._entries.popleft()
                gone.append(first.record)
                self._size -= freed
        return kept, gone

    def entries(self) -> list[Entry]:
        """All of them, as they came in."""
        return [entry for entry, _ in self._entries]
