"""What changed, for pages and programs that follow along."""

from __future__ import annotations

import json

from werkzeug.wrappers import Response

from .site import Visit


def version(visit: Visit) -> Response:
    """What a page asks every second if it cannot be told (`events`): one number."""
    trace_id = visit.request.args.get("trace", "").lower()
    number = visit.store.version_of(trace_id) if trace_id else visit.store.version
    return Response(str(number), content_type="text/plain")


def changed(visit: Visit) -> Response:
    """The traces that changed after a version: what ``flask bodytrace tail`` asks."""
    store = visit.store
    number = store.version
    found = store.summaries(after=visit.request.args.get("after", 0, type=int))
    traces = [
        {
            "traceId": summary.trace_id,
            "complete": summary.complete,
            "spans": summary.spans,
            "quietSeconds": round(store.quiet(summary.trace_id), 3),
        }
        for summary in found
    ]
    body = {"version": number, "traces": traces}
    return Response(json.dumps(body), content_type="application/json")
