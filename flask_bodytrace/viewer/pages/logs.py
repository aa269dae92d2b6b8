"""The page of log records."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.log_filter import LEVELS, LogFilter, level_of, severity_of

from .site import Visit

_ON_A_PAGE = 100
_LONGEST = 8_192
"""Characters of a message that the page has; all of it is on its span's page."""


def logs(visit: Visit) -> Response:
    """The log records that match, the latest first, a hundred a page."""
    arguments = visit.request.args
    store = visit.store
    version = store.version
    everything = store.logs()
    wanted = LogFilter.read(arguments)
    found = wanted.of(everything)
    page = max(arguments.get("page", 1, type=int), 1)
    start = (page - 1) * _ON_A_PAGE
    shown = found[start : start + _ON_A_PAGE]
    traces = {entry.record.trace_id for entry in shown} - {""}
    return visit.page(
        "logs.html",
        version=version,
        filter=wanted,
        found=len(found),
        total=len(everything),
        shown=shown,
        page=page,
        more=start + _ON_A_PAGE < len(found),
        services=sorted({entry.record.service for entry in everything} - {""}),
        levels=list(LEVELS),
        longest=_LONGEST,
        level_of=level_of,
        severity_of=severity_of,
        traces={trace_id: store.summary(trace_id) for trace_id in traces},
    )
