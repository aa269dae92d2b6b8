"""One trace as a waterfall, and the search within it."""

from __future__ import annotations

import json
from collections import Counter

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.chart import bar, ticks
from flask_bodytrace.viewer.log_marks import marks_of
from flask_bodytrace.viewer.rows import rows_json
from flask_bodytrace.viewer.search import find_spans
from flask_bodytrace.viewer.waterfall import waterfall

from .site import Visit
from .work import work_in

_AT_ONCE = 200
"""Rows that come as markup: what is seen first, and all there is without the script."""


def trace(visit: Visit, trace_id: str) -> Response:
    """The waterfall."""
    found = visit.find(trace_id)
    whole = waterfall(found.spans)
    services: dict[str, int] = {}
    late = 0
    for row in whole.rows:
        services[row.span.service] = services.get(row.span.service, 0) + row.own
        late += whole.answered is not None and row.span.start >= whole.answered
    colour = visit.site.colour
    marks = marks_of(found.logs, whole)
    log_counts = Counter(log.span_id for log in found.logs)
    first = min(max(visit.request.args.get("from", 1, type=int), 1), len(whole.rows))
    store = visit.store
    executed, repeated, templates = work_in(found.spans)
    return visit.page(
        "trace.html",
        trace=found,
        summary=found.summary,
        whole=whole,
        first=first,
        rows=whole.rows[first - 1 : first - 1 + _AT_ONCE],
        at_once=_AT_ONCE,
        deepest=max(row.depth for row in whole.rows),
        data=rows_json(whole, log_counts, colour, marks),
        bar=bar,
        ticks=ticks(whole),
        services=services,
        late=late,
        log_counts=log_counts,
        marks=marks,
        links_to=[(other, store.summary(other)) for other in found.summary.links],
        links_from=store.linking_to(found.trace_id),
        executed=executed,
        repeated=repeated,
        templates=templates,
        find=visit.request.args.get("find", "")[:256],
    )


def find(visit: Visit, trace_id: str) -> Response:
    """The ids of the spans that match a search."""
    matching = find_spans(visit.find(trace_id), visit.request.args.get("q", ""))
    return Response(json.dumps(matching), content_type="application/json")
