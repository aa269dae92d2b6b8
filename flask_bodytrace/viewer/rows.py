"""A waterfall as the script takes it: one short list a row, times in ns from the trace's start.

What is drawn is made by the script, and only what is in sight: so a trace of ten thousand spans
opens as fast as one of a hundred.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

from .log_marks import Mark
from .waterfall import Waterfall

FAILED, ORPHAN, AFTER = 1, 2, 4
"""Bits of a row's sixth field: an error; its parent is not here; it began after the answer."""


def rows_json(
    whole: Waterfall,
    logs: Mapping[str | None, int],
    colour: Callable[[str], str],
    marks: Mapping[str | None, Sequence[Mark]],
) -> str:
    """All rows, as JSON.

    A row is span id, depth, name, number of its service, start, duration, bits, clock skew, number
    of log records, starts and lengths of its stretches on the critical path in turn, and its log
    records' marks: time, level and text of each.

    :param logs: how many log records each span has.
    :param colour: the class that gives a service its colour.
    :param marks: those of each span.
    """
    services: dict[str, int] = {}
    rows = []
    start, answered = whole.start, whole.answered
    for row in whole.rows:
        span = row.span
        bits = FAILED * span.failed | ORPHAN * row.orphan
        if answered is not None and span.start >= answered:
            bits |= AFTER
        critical = [number for a, b in row.critical for number in (a - start, b - a)]
        rows.append(
            (
                span.span_id,
                row.depth,
                span.name,
                services.setdefault(span.service, len(services)),
                span.start - start,
                max(span.duration, 0),
                bits,
                row.skew,
                logs.get(span.span_id, 0),
                critical,
                [(mark.time, mark.level, mark.text) for mark in marks.get(span.span_id, ())],
            )
        )
    found = {
        "duration": whole.duration,
        "answered": None if answered is None else answered - start,
        "services": [(name, colour(name)) for name in services],
        "rows": rows,
    }
    return json.dumps(found, separators=(",", ":"))
