"""The list of traces."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.chart import HEIGHT, latency_chart
from flask_bodytrace.viewer.search import Filter

from .site import Visit

_ON_A_PAGE = 100


def traces(visit: Visit) -> Response:
    """The traces that match, a hundred a page."""
    arguments = visit.request.args
    version = visit.store.version
    everything = visit.store.summaries()
    wanted = Filter.read(arguments)
    found = wanted.of(visit.store, everything)
    page = max(arguments.get("page", 1, type=int), 1)
    start = (page - 1) * _ON_A_PAGE
    shown = found[start : start + _ON_A_PAGE]
    return visit.page(
        "traces.html",
        version=version,
        filter=wanted,
        found=len(found),
        total=len(everything),
        shown=shown,
        page=page,
        more=start + _ON_A_PAGE < len(found),
        chart=latency_chart(found[start:]),
        chart_height=HEIGHT,
        slowest=max((summary.duration for summary in shown), default=1) or 1,
        services=sorted({name for summary in everything for name in summary.services}),
    )
