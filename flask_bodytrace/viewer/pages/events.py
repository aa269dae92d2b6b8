"""Server-sent events: pages are told that something changed, instead of asking all the time.

Each open page holds a thread of the server. Werkzeug's servers start one for each request; others
have few, which belong to the application: there, and beyond a bound, the answer is 204, upon which
a browser does not come back, and the page asks once a second as `changes` has it.
"""

from __future__ import annotations

from collections.abc import Iterator

from werkzeug.wrappers import Response

from flask_bodytrace.viewer.streams import Streams

from .site import Visit

_ALIVE = 5.0
"""Seconds after which a page is told that the viewer is still there."""
_PAUSE = 0.25
"""Seconds between two changes: a burst of spans is one."""


def events(visit: Visit) -> Response:
    """A stream of versions: the present one, and each new one."""
    streams = visit.site.streams
    has_threads = visit.request.environ.get("SERVER_SOFTWARE", "").startswith("Werkzeug")
    if not has_threads or not visit.request.environ.get("wsgi.multithread") or not streams.take():
        return Response(status=204)
    told = _told(visit, streams, visit.request.args.get("trace", "").lower())
    response = Response(told, content_type="text/event-stream")
    # Also where the client left before the first event was asked for.
    response.call_on_close(streams.give_back)
    response.headers["X-Accel-Buffering"] = "no"
    return response


def _told(visit: Visit, streams: Streams, trace_id: str) -> Iterator[bytes]:
    store = visit.store
    sent = -1
    while not streams.closing.is_set():
        seen = store.version
        number = store.version_of(trace_id) if trace_id else seen
        if number == sent:
            yield b"event: alive\ndata:\n\n"
        else:
            sent = number
            yield b"data: %d\n\n" % number
            streams.closing.wait(_PAUSE)
        store.wait(seen, _ALIVE)
