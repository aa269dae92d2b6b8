"""Log records as marks on the bars of a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import display
from .log_filter import level_of, severity_of
from .model import LogRecord
from .waterfall import Waterfall

_MOST = 50
"""Of one span: more could not be told apart. The most severe stay."""
_TEXT = 120
"""Characters of a message."""


@dataclass(frozen=True, slots=True)
class Mark:
    """One log record.

    :param time: ns from the start of the trace; what is outside of it is drawn at its edge.
    :param x: the same in percent of the trace.
    :param level: ``error``, ``warn`` or empty.
    :param text: severity and message, as they are told when pointed at.
    """

    time: int
    x: float
    level: str
    text: str


def marks_of(logs: Sequence[LogRecord], whole: Waterfall) -> dict[str | None, list[Mark]]:
    """The marks of each span, by their time."""
    by_span: dict[str | None, list[LogRecord]] = {}
    for log in logs:
        by_span.setdefault(log.span_id, []).append(log)
    found = {}
    for span_id, its in by_span.items():
        worst = sorted(its, key=lambda log: log.severity_number, reverse=True)[:_MOST]
        worst.sort(key=lambda log: log.time)
        found[span_id] = [_mark(log, whole) for log in worst]
    return found


def _mark(log: LogRecord, whole: Waterfall) -> Mark:
    time = min(max(log.time - whole.start, 0), whole.duration)
    text = display.text(log.body)
    short = text if len(text) <= _TEXT else text[: _TEXT - 1] + "…"
    severity = severity_of(log)
    return Mark(
        time=time,
        x=round(100 * time / whole.duration, 3),
        level=level_of(log),
        text=f"{severity} {short}".strip(),
    )
