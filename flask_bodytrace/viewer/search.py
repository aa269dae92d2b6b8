"""The list's filter: what people type, and which traces match."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from .summary import Summary

_UNITS = {"ns": 1, "us": 1_000, "µs": 1_000, "ms": 10**6, "": 10**6, "s": 10**9}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ns|us|µs|ms|s|)")
_STATUS = re.compile(r"error|ok|[1-5]xx|[1-5][0-9]{2}")
_MAX_TEXT = 256


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; empty means everything.

    :param text: part of a trace id, a name or a business id; ``order.id=ORD1`` names the id.
    :param status: ``ok``, ``error``, a status code or a class such as ``4xx``.
    :param minimum: duration in ns.
    """

    text: str = ""
    service: str = ""
    status: str = ""
    minimum: int = 0
    given_minimum: str = ""

    @classmethod
    def read(cls, arguments: Mapping[str, str]) -> Filter:
        """From a query string's arguments; what makes no sense is left out."""
        status = arguments.get("status", "").strip().lower()
        given = arguments.get("min", "").strip().lower()[:20]
        match = _DURATION.fullmatch(given)
        return cls(
            text=arguments.get("q", "").strip()[:_MAX_TEXT],
            service=arguments.get("service", "")[:_MAX_TEXT],
            status=status if _STATUS.fullmatch(status) else "",
            minimum=int(float(match[1]) * _UNITS[match[2]]) if match else 0,
            given_minimum=given if match else "",
        )

    def query(self, **more: object) -> str:
        """As a query string, with `more` arguments."""
        found = {
            "q": self.text,
            "service": self.service,
            "status": self.status,
            "min": self.given_minimum,
            **more,
        }
        return urlencode({name: value for name, value in found.items() if value})

    def __bool__(self) -> bool:
        """Whether anything is filtered."""
        return bool(self.text or self.service or self.status or self.minimum)

    def of(self, summaries: Sequence[Summary]) -> list[Summary]:
        """The matching ones, in the same order."""
        return [summary for summary in summaries if self._matches(summary)]

    def _matches(self, summary: Summary) -> bool:
        return (
            summary.duration >= self.minimum
            and (not self.service or self.service in summary.services)
            and (not self.status or self._has_status(summary))
            and (not self.text or self._has_text(summary))
        )

    def _has_status(self, summary: Summary) -> bool:
        if self.status in {"ok", "error"}:
            return summary.failed == (self.status == "error")
        found = str(summary.status or "")
        if self.status.endswith("xx"):
            return found[:1] == self.status[0]
        return found == self.status

    def _has_text(self, summary: Summary) -> bool:
        text = self.text.lower()
        return (
            text in summary.trace_id
            or text in summary.name.lower()
            or any(
                text in value.lower() or text == f"{name}={value}".lower()
                for name, value in summary.ids
            )
        )
