"""A trace in forms to take away: Mermaid, OTLP, and what repeats its request."""

from __future__ import annotations

from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from flask_bodytrace.viewer import commands, export, otlp_writer
from flask_bodytrace.viewer.replay import replay_of_trace

from .site import Visit

_TEXT = "text/plain; charset=utf-8"


def take_away(visit: Visit, trace_id: str) -> Response:
    """The page with all of them."""
    trace = visit.find(trace_id)
    replay = replay_of_trace(trace.spans)
    return visit.page(
        "export.html",
        trace=trace,
        summary=trace.summary,
        mermaid=export.mermaid(trace.spans),
        again={}
        if replay is None
        else {form: make(replay) for form, make in commands.FORMS.items()},
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
    """The command for curl that repeats the request.

    :raises NotFound: there was no request.
    """
    return _again(visit, trace_id, "curl")


def httpie(visit: Visit, trace_id: str) -> Response:
    """The command for HTTPie.

    :raises NotFound: there was no request.
    """
    return _again(visit, trace_id, "httpie")


def python(visit: Visit, trace_id: str) -> Response:
    """The script for Python.

    :raises NotFound: there was no request.
    """
    return _again(visit, trace_id, "python")


def _again(visit: Visit, trace_id: str, form: str) -> Response:
    replay = replay_of_trace(visit.find(trace_id).spans)
    if replay is None:
        raise NotFound("This trace does not start with an HTTP request.")
    text = commands.FORMS[form](replay)
    # Half a surrogate pair has no encoding.
    return Response(text.encode(errors="replace"), content_type=_TEXT)
