"""Statistics per route."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.routes import Route, count_routes
from flask_bodytrace.viewer.search import Filter

from .site import Visit

_SORTS = {
    "requests": lambda route: route.requests,
    "errors": lambda route: route.error_rate,
    "p50": lambda route: route.percentile(50),
    "p95": lambda route: route.percentile(95),
    "p99": lambda route: route.percentile(99),
}
_SHOWN = 200


def routes(visit: Visit) -> Response:
    """Rate, errors, percentiles and a histogram of each route."""
    wanted = Filter.read(visit.request.args)
    version = visit.store.version
    counted = count_routes(visit.store.spans(), wanted.since, wanted.until)
    by = visit.request.args.get("by", "requests")
    found: list[Route] = list(counted.routes)
    if by != "requests" and by in _SORTS:
        found.sort(key=_SORTS[by], reverse=True)
    return visit.page(
        "routes.html",
        version=version,
        filter=wanted,
        counted=counted,
        by=by if by in _SORTS else "requests",
        routes=found[:_SHOWN],
        left_out=max(len(found) - _SHOWN, 0),
    )
