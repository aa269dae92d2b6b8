"""Files of traces that are dropped on a page."""

from __future__ import annotations

import json

from werkzeug.exceptions import MethodNotAllowed
from werkzeug.wrappers import Response

from flask_bodytrace.viewer.imports import spans_from_file
from flask_bodytrace.viewer.otlp import BadRequest
from flask_bodytrace.viewer.receiver import Refused, read

from .site import Visit

MAX_FILE = 64 << 20
"""Bytes."""


def take_in(visit: Visit) -> Response:
    """Keep the spans of a file, and say where they are.

    As JSON, which a page elsewhere cannot send without being allowed to.

    :raises MethodNotAllowed: it is no POST.
    """
    request = visit.request
    if request.method != "POST":
        raise MethodNotAllowed(valid_methods=["POST"])
    if request.mimetype != "application/json":
        return _answer(415, error="Content-Type must be application/json")
    try:
        spans = spans_from_file(read(request, MAX_FILE))
    except Refused as refused:
        return _answer(refused.status, error=str(refused))
    except BadRequest as error:
        return _answer(400, error=str(error))
    visit.store.add(spans)
    traces = list(dict.fromkeys(span.trace_id for span in spans))
    one = visit.urls.build("trace", {"trace_id": traces[0]}) if len(traces) == 1 else ""
    return _answer(200, spans=len(spans), traces=traces, url=one or visit.urls.build("traces"))


def _answer(status: int, **values: object) -> Response:
    return Response(json.dumps(values), status, content_type="application/json")
