"""A trace in forms to take away: Mermaid, OTLP, curl."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from flask_bodytrace.viewer import export, otlp_writer
from flask_bodytrace.viewer.store import Trace
from flask_bodytrace.viewer.summary import root_of

from .site import Visit

_TEXT = "text/plain; charset=utf-8"


def take_away(visit: Visit, trace_id: str) -> Response:
    """The page with all of them."""
    trace = visit.find(trace_id)
    return visit.page(
        "export.html",
        trace=trace,
        summary=trace.summary,
        mermaid=export.mermaid(trace.spans),
        curl=_curl(trace),
        otlp=otlp_writer.to_json(trace.spans),
    )


def otlp(visit: Visit, trace_id: str) -> Response:
    """OTLP, as JSON."""
    text = otlp_writer.to_json(visit.find(trace_id).spans)
    return Response(text, content_type="application/json")


def mermaid(visit: Visit, trace_id: str) -> Response:
    """The sequence diagram."""
    return Response(export.mermaid(visit.find(trace_id).spans), content_type=_TEXT)


def curl(visit: Visit, trace_id: str) -> Response:
    """The command that repeats the request.

    :raises NotFound: there was no request.
    """
    text = _curl(visit.find(trace_id))
    if text is None:
        raise NotFound("This trace does not start with an HTTP request.")
    return Response(text, content_type=_TEXT)


def _curl(trace: Trace) -> str | None:
    return export.curl(root_of({span.span_id: span for span in trace.spans}))
