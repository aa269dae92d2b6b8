"""The list's filter: what people type, and which traces match."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from .index import index_of
from .model import LogRecord
from .store import Trace, TraceStore
from .summary import Summary
from .terms import matches_all, terms_of

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "": 10**6, "s": 10**9}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ns|us|µs|ms|s|)")
_STATUS = re.compile(r"error|ok|[1-5]xx|[1-5][0-9]{2}")
_MAX_TEXT = 256
_SORTS: dict[str, Callable[[Summary], Any]] = {
    "started": lambda summary: summary.start,
    "name": lambda summary: summary.name.lower(),
    "spans": lambda summary: summary.spans,
    "status": lambda summary: (summary.errors, summary.status or 0),
    "duration": lambda summary: summary.duration,
}
COLUMNS = tuple(_SORTS)
"""What the list can be sorted by."""
_BY_DEFAULT = "-started"


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty means everything.

    :param text: words, as `terms_of` reads them.
    :param status: ``ok``, ``error``, a status code or a class such as ``4xx``.
    :param minimum: duration in ns.
    :param since: ns since 1970: the earliest start.
    :param until: the latest start; 0 for any.
    :param sort: a column; with ``-`` in front, from the largest down. Empty: the latest first.
    """

    text: str = ""
    service: str = ""
    status: str = ""
    minimum: int = 0
    given_minimum: str = ""
    sort: str = ""
    since: int = 0
    until: int = 0

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> Filter:
        """From a query string's arguments; what makes no sense is left out."""
        status = arguments.get("status", "").strip().lower()
        given = arguments.get("min", "").strip().lower()[:20]
        match = _DURATION.fullmatch(given)
        sort = arguments.get("sort", "")
        known = sort.removeprefix("-") in _SORTS and sort != _BY_DEFAULT
        return cls(
            text=arguments.get("q", "").strip()[:_MAX_TEXT],
            service=arguments.get("service", "")[:_MAX_TEXT],
            status=status if _STATUS.fullmatch(status) else "",
            minimum=int(float(match[1]) * _UNITS[match[2]]) if match else 0,
            given_minimum=given if match else "",
            sort=sort if known else "",
            since=_moment(arguments.get("since", "")),
            until=_moment(arguments.get("until", "")),
        )

    def query(self, **changes: object) -> str:
        """As a query string, with `changes` to it, or arguments besides it."""
        found = {
            "q": self.text,
            "service": self.service,
            "status": self.status,
            "min": self.given_minimum,
            "sort": self.sort,
            "since": self.since // 10**6 or "",
            "until": self.until // 10**6 or "",
            **changes,
        }
        return urlencode({name: value for name, value in found.items() if value}, errors="replace")

    def sorted_by(self, column: str) -> str:
        """Which way the list is sorted by a column: ``ascending``, ``descending`` or ``none``."""
        sort = self.sort or _BY_DEFAULT
        if sort.removeprefix("-") != column:
            return "none"
        return "descending" if sort.startswith("-") else "ascending"

    def sort_by(self, column: str) -> str:
        """The query string that sorts by a column, or turns its order around."""
        down = self.sorted_by(column) == "ascending"
        up = self.sorted_by(column) == "descending" or (column == "name" and not down)
        return self.query(sort=column if up else f"-{column}")

    def __bool__(self) -> bool:
        """Whether anything is filtered."""
        return bool(
            self.text or self.service or self.status or self.minimum or self.since or self.until
        )

    def of(self, store: TraceStore, summaries: Sequence[Summary]) -> list[Summary]:
        """Those of `summaries` that match, in the order that is wanted."""
        found = [summary for summary in summaries if self._matches(summary)]
        terms = terms_of(self.text)
        if terms:
            found = [
                summary
                for summary in found
                if (index := store.index(summary.trace_id)) is not None
                and matches_all(terms, index)
            ]
        if self.sort:
            key = _SORTS[self.sort.removeprefix("-")]
            found.sort(key=key, reverse=self.sort.startswith("-"))
        return found

    def _matches(self, summary: Summary) -> bool:
        return (
            summary.duration >= self.minimum
            and summary.start >= self.since
            and (not self.until or summary.start <= self.until)
            and (not self.service or self.service in summary.services)
            and (not self.status or self._has_status(summary))
        )

    def _has_status(self, summary: Summary) -> bool:
        if self.status in {"ok", "error"}:
            return summary.failed == (self.status == "error")
        found = str(summary.status or "")
        if self.status.endswith("xx"):
            return found[:1] == self.status[0]
        return found == self.status


def _moment(text: str) -> int:
    """Milliseconds since 1970, as browsers count, in ns; 0 for what is none."""
    return int(text) * 10**6 if re.fullmatch(r"[0-9]{1,13}", text) else 0


def find_spans(trace: Trace, text: str) -> list[str]:
    """The ids of those spans of a trace that match a search by themselves, by their start."""
    terms = terms_of(text[:_MAX_TEXT])
    if not terms:
        return []
    logs: dict[str | None, list[LogRecord]] = {}
    for log in trace.logs:
        logs.setdefault(log.span_id, []).append(log)
    return [
        span.span_id
        for span in trace.spans
        if matches_all(terms, index_of([span], logs.get(span.span_id, ())))
    ]
