"""What every service of the system is: a Flask app, traced, that answers errors in JSON."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from flask import Flask, abort, request
from werkzeug.exceptions import HTTPException, ServiceUnavailable

from example_app import labels
from example_app.failures import TemporarilyUnavailable
from flask_bodytrace import BodyTrace, current_trace

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from flask import Request
    from opentelemetry.trace import TracerProvider
    from werkzeug.sansio.response import Response

    from flask_bodytrace import RequestTrace

_log = logging.getLogger(__name__)


_UNTRACED = ("^/health$", "^/ready$", "^/metrics$")
"""Probes and scrapes come every few seconds, to each process."""


def traced_service(
    name: str,
    tracer_provider: TracerProvider | None = None,
    *,
    otel_spans: bool = False,
    **settings: Any,
) -> Flask:
    """Return an app without routes.

    :param name: the service's name, also on its spans.
    :param tracer_provider: where its spans go; without one the `OTEL_*` variables say.
    :param otel_spans: whether OpenTelemetry's own instrumentation makes the server spans, for
        comparison.
    :param settings: of `BodyTrace`, where this service is not like the others.
    """
    app = Flask(name)
    BodyTrace(
        app,
        tracer_provider=tracer_provider,
        on_request=_label,
        **{
            "ids": "order.id=orderId,user.id=userId",
            # Every route that takes a body reads it twice, so one too large is no use: 413.
            "over_limit": "reject",
            "body_limit": "1MiB",
            "baggage": True,
            "logs": True,
            "relay_calls": True,
            "excluded_urls": ",".join(_UNTRACED),
            **settings,
        },
    )
    if otel_spans:
        from opentelemetry.instrumentation.flask import FlaskInstrumentor

        FlaskInstrumentor().instrument_app(  # type: ignore[no-untyped-call] # it has no types
            app, tracer_provider=tracer_provider, excluded_urls="/health$,/ready$,/metrics$"
        )
    app.register_error_handler(HTTPException, problem)
    app.register_error_handler(TemporarilyUnavailable, _unavailable)
    return app


def with_routes(app: Flask, other: WSGIApplication) -> WSGIApplication:
    """Return the WSGI application that has `app`'s routes, and else is `other`."""
    paths = {rule.rule for rule in app.url_map.iter_rules()}

    def dispatch(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        chosen = app if environ.get("PATH_INFO") in paths else other
        return chosen(environ, start_response)

    return dispatch


def _label(trace: RequestTrace, _request: Request) -> None:
    if label := labels.current():
        trace.span.set_attribute(labels.ATTRIBUTE, label)


def json_body() -> object:
    """The request's JSON; 400 for what is malformed, or nested deeper than Python can follow."""
    try:
        return request.get_json()
    except RecursionError:
        abort(400, "The JSON is nested too deeply.")


def _unavailable(error: TemporarilyUnavailable) -> Response:
    # The error's text names files and addresses: those are for the log.
    _log.warning("answered 503: %s", error)
    return problem(ServiceUnavailable("Something that is needed is not there now. Try it later."))


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
