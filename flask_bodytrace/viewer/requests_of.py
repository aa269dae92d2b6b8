"""Which request each span of a trace is part of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .model import ANSWERING, Span


def requests_of(spans: Sequence[Span]) -> Mapping[str, Span | None]:
    """By span id, the nearest server or consumer span on the way up, itself perhaps.

    None where there is none on the way. Cycles of parents are cut where they close.
    """
    by_id = {span.span_id: span for span in spans}
    found: dict[str, Span | None] = {}
    for span in spans:
        way: dict[str, None] = {}
        one: Span | None = span
        while one is not None and one.span_id not in found and one.span_id not in way:
            if one.kind in ANSWERING:
                found[one.span_id] = one
                break
            way[one.span_id] = None
            one = by_id.get(one.parent_id) if one.parent_id else None
        request = found.get(one.span_id) if one is not None else None
        found.update(dict.fromkeys(way, request))
    return found
