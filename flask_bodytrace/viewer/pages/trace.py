"""One trace as a waterfall."""

from __future__ import annotations

from collections import Counter

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.chart import bar, ticks
from flask_bodytrace.viewer.model import KINDS
from flask_bodytrace.viewer.waterfall import waterfall

from .site import Visit


def trace(visit: Visit, trace_id: str) -> Response:
    """The waterfall."""
    found = visit.find(trace_id)
    whole = waterfall(found.spans)
    services: dict[str, int] = {}
    for row in whole.rows:
        services[row.span.service] = services.get(row.span.service, 0) + row.own
    return visit.page(
        "trace.html",
        trace=found,
        summary=found.summary,
        whole=whole,
        bar=bar,
        ticks=ticks(whole),
        services=services,
        log_counts=Counter(log.span_id for log in found.logs),
        kinds=KINDS,
    )
