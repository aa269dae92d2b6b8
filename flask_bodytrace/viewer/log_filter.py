"""The filter of the page of log records: what people choose and type, and which records match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from .index import index_of
from .log_store import Entry
from .model import LogRecord
from .terms import matches_all, terms_of

LEVELS: Mapping[str, int] = {"debug": 5, "info": 9, "warn": 13, "error": 17, "fatal": 21}
"""The least severity number of each level (OpenTelemetry's logs data model)."""
_NAMES = {number: name for name, number in LEVELS.items()}
_MAX_TEXT = 256


def level_of(record: LogRecord) -> str:
    """Its level in three: ``error``, ``warn``, or empty for what needs no eye."""
    number = record.severity_number
    return "error" if number >= LEVELS["error"] else "warn" if number >= LEVELS["warn"] else ""


def severity_of(record: LogRecord) -> str:
    """Its severity as its source calls it, else as OpenTelemetry does; empty for none."""
    if record.severity:
        return record.severity
    known = max((number for number in _NAMES if number <= record.severity_number), default=0)
    return _NAMES[known].upper() if known else "TRACE" if record.severity_number > 0 else ""


@dataclass(frozen=True, slots=True)
class LogFilter:
    """What to show; empty means everything.

    :param text: words, as `terms_of` reads them.
    :param severity: at least this: one of `LEVELS`.
    :param trace: a trace id, or how one begins.
    """

    text: str = ""
    severity: str = ""
    service: str = ""
    trace: str = ""

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> LogFilter:
        """From a query string's arguments; what makes no sense is left out."""
        severity = arguments.get("severity", "").strip().lower()
        trace = arguments.get("trace", "").strip().lower()
        return cls(
            text=arguments.get("q", "").strip()[:_MAX_TEXT],
            severity=severity if severity in LEVELS else "",
            service=arguments.get("service", "")[:_MAX_TEXT],
            trace=trace if re.fullmatch(r"[0-9a-f]{1,32}", trace) else "",
        )

    def query(self, **changes: object) -> str:
        """As a query string, with `changes` to it, or arguments besides it."""
        found = {
            "q": self.text,
            "severity": self.severity,
            "service": self.service,
            "trace": self.trace,
            **changes,
        }
        return urlencode({name: value for name, value in found.items() if value}, errors="replace")

    def __bool__(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.text or self.severity or self.service or self.trace)

    def of(self, entries: Sequence[Entry]) -> list[Entry]:
        """Those that match, the latest first."""
        least = LEVELS.get(self.severity, 0)
        found = [
            entry
            for entry in entries
            if (record := entry.record).severity_number >= least
            and (not self.service or record.service == self.service)
            and record.trace_id.startswith(self.trace)
        ]
        terms = terms_of(self.text)
        if terms:
            found = [entry for entry in found if matches_all(terms, index_of([], [entry.record]))]
        found.sort(key=lambda entry: (entry.record.time, entry.number), reverse=True)
        return found
