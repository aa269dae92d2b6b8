"""What every service of the system is: a Flask app, traced, that answers errors in JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException

from flask_bodytrace import BodyTrace, current_trace

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from werkzeug.sansio.response import Response


def traced_service(name: str, tracer_provider: TracerProvider | None = None) -> Flask:
    """Return an app without routes.

    :param name: the service's name, also on its spans.
    :param tracer_provider: where its spans go; without one the `OTEL_*` variables say.
    """
    app = Flask(name)
    app.config["BODYTRACE_IDS"] = "order.id=orderId,user.id=userId"
    # Every route that takes a body reads it twice, so one that is too large is no use: 413.
    app.config["BODYTRACE_OVER_LIMIT"] = "reject"
    BodyTrace(app, tracer_provider=tracer_provider)
    app.register_error_handler(HTTPException, problem)
    return app


def json_body() -> object:
    """The request's JSON; 400 for what is malformed, or nested deeper than Python can follow."""
    try:
        return request.get_json()
    except RecursionError:
        abort(400, "The JSON is nested too deeply.")


def problem(error: HTTPException) -> Response:
    """Answer an error as JSON, with the trace id under which to look for it."""
    trace = current_trace()
    response = error.get_response()
    response.content_type = "application/json"
    response.data = json.dumps(
        {
            "error": error.name,
            "message": error.description,
            "traceId": trace.trace_id if trace else None,
        }
    )
    return response
