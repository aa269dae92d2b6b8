"""Where the time of a trace goes, or of all the traces of one route."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from flask_bodytrace.viewer.flame import burn
from flask_bodytrace.viewer.waterfall import waterfall

from .site import Visit

_TRACES = 200
"""Of one route, the latest so many are added up."""
_ROW = 22


def of_trace(visit: Visit, trace_id: str) -> Response:
    """The flame graph of one trace."""
    found = visit.find(trace_id)
    return _page(visit, [found.trace_id], name=found.summary.name, trace_id=found.trace_id)


def of_route(visit: Visit) -> Response:
    """The flame graph of the traces that begin with one route.

    :raises NotFound: there are none.
    """
    name = visit.request.args.get("name", "")
    service = visit.request.args.get("service", "")
    found = [
        summary.trace_id
        for summary in visit.store.summaries()
        if summary.name == name and summary.service == service
    ][:_TRACES]
    if not found:
        raise NotFound("No trace in the store begins with this route.")
    return _page(visit, found, name=name, trace_id="")


def _page(visit: Visit, trace_ids: list[str], *, name: str, trace_id: str) -> Response:
    traces = [trace for one in trace_ids if (trace := visit.store.trace(one)) is not None]
    flame = burn(waterfall(trace.spans) for trace in traces)
    return visit.page(
        "flame.html",
        flame=flame,
        name=name,
        trace_id=trace_id,
        traces=len(traces),
        row=_ROW,
    )
