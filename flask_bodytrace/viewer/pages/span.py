"""One span, with everything that it says."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from flask_bodytrace.viewer.chart import bar
from flask_bodytrace.viewer.log_marks import marks_of
from flask_bodytrace.viewer.model import KINDS
from flask_bodytrace.viewer.waterfall import waterfall

from .site import Visit


def span(visit: Visit, trace_id: str, span_id: str) -> Response:
    """Its attributes, events, logs and links, and the spans around it.

    :raises NotFound: it is not, or no longer, here.
    """
    trace = visit.find(trace_id)
    whole = waterfall(trace.spans)
    rows = whole.rows
    place = next((i for i, row in enumerate(rows) if row.span.span_id == span_id), None)
    if place is None:
        raise NotFound("This span is not in the store, or no longer.")
    row = rows[place]
    parent = next((o.span for o in rows if o.span.span_id == row.span.parent_id), None)
    logs = [log for log in trace.logs if log.span_id == span_id]
    return visit.page(
        "span.html",
        trace=trace,
        summary=trace.summary,
        whole=whole,
        row=row,
        span=row.span,
        bar=bar(row, whole),
        kind=KINDS[row.span.kind],
        parent=parent,
        children=[other for other in rows if other.span.parent_id == span_id and other is not row],
        previous=rows[place - 1].span if place else None,
        next=rows[place + 1].span if place + 1 < len(rows) else None,
        exceptions=[event for event in row.span.events if event.name == "exception"],
        logs=logs,
        marks=marks_of(logs, whole).get(span_id, ()),
        known={
            trace_id: visit.store.summary(trace_id)
            for trace_id in {link.trace_id for link in row.span.links}
        },
    )
