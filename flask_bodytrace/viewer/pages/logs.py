"""The page of log records."""

from __future__ import annotations

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.log_filter import LEVELS, LogFilter, level_of, severity_of

from .paging import page_of
from .site import Visit

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
    page = page_of(arguments, found)
    traces = {entry.record.trace_id for entry in page.shown} - {""}
    return visit.page(
        "logs.html",
        version=version,
        filter=wanted,
        found=len(found),
        total=len(everything),
        shown=page.shown,
        page=page.number,
        more=page.more,
        services=sorted({entry.record.service for entry in everything} - {""}),
        levels=list(LEVELS),
        longest=_LONGEST,
        level_of=level_of,
        severity_of=severity_of,
        traces={trace_id: store.summary(trace_id) for trace_id in traces},
    )
