"""The list of traces."""

from __future__ import annotations

import json

from werkzeug.wrappers import Response

from flask_bodytrace.viewer import otlp_writer
from flask_bodytrace.viewer.chart import HEIGHT, latency_chart
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.search import Filter

from .paging import ON_A_PAGE, page_of
from .site import Visit

_MOST = 1_000
_MOST_SPANS = 50_000


def traces(visit: Visit) -> Response:
    """The traces that match, a hundred a page."""
    arguments = visit.request.args
    version = visit.store.version
    everything = visit.store.summaries()
    wanted = Filter.read(arguments)
    found = wanted.of(visit.store, everything)
    page = page_of(arguments, found)
    return visit.page(
        "traces.html",
        version=version,
        filter=wanted,
        found=len(found),
        total=len(everything),
        shown=page.shown,
        page=page.number,
        more=page.more,
        chart=latency_chart(found[page.start :]),
        chart_height=HEIGHT,
        slowest=max((summary.duration for summary in page.shown), default=1) or 1,
        services=sorted({name for summary in everything for name in summary.services}),
    )


def as_json(visit: Visit) -> Response:
    """Those that match, for programs: ``flask bodytrace search`` asks it."""
    arguments = visit.request.args
    limit = min(max(arguments.get("limit", ON_A_PAGE, type=int), 0), _MOST)
    found = Filter.read(arguments).of(visit.store, visit.store.summaries())
    traces = [
        {
            "traceId": summary.trace_id,
            "name": summary.name,
            "service": summary.service,
            "services": summary.services,
            "start": summary.start,
            "duration": summary.duration,
            "spans": summary.spans,
            "errors": summary.errors,
            "status": summary.status,
            "ids": summary.ids,
        }
        for summary in found[:limit]
    ]
    body = json.dumps({"found": len(found), "traces": traces})
    return Response(body, content_type="application/json")


def export(visit: Visit) -> Response:
    """Those that match, as OTLP: as many as have 50,000 spans together."""
    spans: list[Span] = []
    for summary in Filter.read(visit.request.args).of(visit.store, visit.store.summaries()):
        trace = visit.store.trace(summary.trace_id)
        if trace is not None and len(spans) + len(trace.spans) <= _MOST_SPANS:
            spans += trace.spans
    headers = {"Content-Disposition": 'attachment; filename="traces.json"'}
    return Response(otlp_writer.to_json(spans), 200, headers, content_type="application/json")
