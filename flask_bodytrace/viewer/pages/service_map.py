"""The service map, of everything or of one trace."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from flask_bodytrace.viewer.servicemap import count_calls

from .site import Visit

_MAX_OPENED = 20


def service_map(visit: Visit) -> Response:
    """Who calls whom."""
    trace_id = visit.request.args.get("trace", "").lower()
    version = visit.find(trace_id).version if trace_id else visit.store.version
    spans = visit.find(trace_id).spans if trace_id else visit.store.spans()
    opened = sorted(set(visit.request.args.getlist("open")[:_MAX_OPENED]))
    calls = count_calls(spans, frozenset(opened))
    return visit.page(
        "map.html",
        version=version,
        calls=calls,
        size=lay_out(calls.nodes, calls.edges),
        trace_id=trace_id,
        opened=opened,
        box=(BOX_WIDTH, BOX_HEIGHT),
    )
