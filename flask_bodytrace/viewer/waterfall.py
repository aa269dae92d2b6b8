"""A trace as rows under one another: nesting, times, and the critical path. Nothing recurses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .model import Span
from .summary import root_of


@dataclass(slots=True)
class Row:
    """One span in its place.

    :param orphan: its parent is named, but not here.
    :param skew: ns by which it starts before its parent; clocks are shown as they are.
    :param own: ns in which none of its children was running.
    :param critical: the stretches, start and end in ns, in which the trace waited for this span.
    """

    span: Span
    depth: int
    children: int
    orphan: bool
    skew: int
    own: int
    critical: list[tuple[int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Waterfall:
    """All rows of a trace; `start` and `end` are ns since 1970.

    :param answered: when the first span had ended, if others went on after it; else None.
    """

    rows: Sequence[Row]
    start: int
    end: int
    answered: int | None = None

    @property
    def duration(self) -> int:
        """Nanoseconds; at least 1, so that it can be divided by."""
        return max(self.end - self.start, 1)


def waterfall(spans: Sequence[Span]) -> Waterfall:
    """Lay out a trace, which has at least one span. Cycles of parents are cut where they close."""
    by_id = {span.span_id: span for span in spans}
    children: dict[str, list[Span]] = {}
    roots = []
    for span in sorted(spans, key=lambda span: span.start):
        if span.parent_id in by_id and span.parent_id != span.span_id:
            children.setdefault(span.parent_id, []).append(span)
        else:
            roots.append(span)
    rows: list[Row] = []
    placed: set[str] = set()
    _place(roots, children, by_id, rows, placed)
    if len(placed) < len(spans):
        # What no root leads to hangs below itself.
        for span in spans:
            if span.span_id not in placed:
                _place([span], children, by_id, rows, placed)
    end = max(max(span.start, span.end) for span in spans)
    first = root_of(by_id)
    went_on = first.parent_id is None and first.start <= first.end < end
    result = Waterfall(rows, min(span.start for span in spans), end, first.end if went_on else None)
    _mark_critical_path(rows, children)
    return result


def _place(
    roots: Sequence[Span],
    children: Mapping[str, list[Span]],
    by_id: Mapping[str, Span],
    rows: list[Row],
    placed: set[str],
) -> None:
    pending = [(span, 0) for span in reversed(roots)]
    while pending:
        span, depth = pending.pop()
        if span.span_id in placed:
            continue
        placed.add(span.span_id)
        below = children.get(span.span_id, [])
        parent = by_id.get(span.parent_id) if span.parent_id else None
        rows.append(
            Row(
                span=span,
                depth=depth,
                children=len(below),
                orphan=span.parent_id is not None and parent is None,
                skew=max(parent.start - span.start, 0) if parent is not None and depth else 0,
                own=_own_time(span, below),
            )
        )
        pending += [(child, depth + 1) for child in reversed(below)]


def _own_time(span: Span, children: Sequence[Span]) -> int:
    """Children come by their start."""
    own = span.end - span.start
    covered = span.start
    for child in children:
        start, end = max(child.start, covered), min(child.end, span.end)
        if end > start:
            own -= end - start
            covered = end
    return max(own, 0)


def _mark_critical_path(rows: Sequence[Row], children: Mapping[str, list[Span]]) -> None:
    """From the first root's end backwards, always along the child that finished last.

    A child counts for as long as its parent ran; what it does afterwards, nobody waits for.
    """
    row_of = {row.span.span_id: row for row in rows}
    seen = {rows[0].span.span_id}
    pending = [(rows[0], rows[0].span.start, rows[0].span.end)]
    while pending:
        row, floor, limit = pending.pop()
        cursor = limit
        below = [child for child in children.get(row.span.span_id, ()) if child.span_id not in seen]
        below.sort(key=lambda child: child.end)
        for child in reversed(below):
            start, end = max(child.start, floor), min(child.end, limit)
            # One that still ran when the next one began held nothing up.
            if end > cursor or end <= start:
                continue
            if end < cursor:
                row.critical.append((end, cursor))
            seen.add(child.span_id)
            pending.append((row_of[child.span_id], start, end))
            cursor = start
        if cursor > floor:
            row.critical.append((floor, cursor))
