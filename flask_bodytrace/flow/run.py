"""The WSGI entry: one request, top to bottom."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from flask_bodytrace.otel.context import attach, detach
from flask_bodytrace.trace.current import answered

from .begin import begin
from .finish import broke, finish
from .respond import respond
from .response import dropped, end_dropped

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from .plan import Plan


def run(
    plan: Plan,
    app: WSGIApplication,
    environ: WSGIEnvironment,
    start_response: StartResponse,
    awaits_span: bool = False,
) -> Iterable[bytes]:
    """Answer one request through `app`, traced.

    :param awaits_span: whether somebody else will start the server span, later in this request.
    """
    if dropped:
        end_dropped()
    try:
        exchange = begin(plan, environ, start_response, awaits_span)
        token = attach(exchange.context)
    except Exception:  # noqa: BLE001 - the application must get the request
        plan.report("begin")
        return app(environ, start_response)
    try:
        iterable = app(environ, exchange.start_response)
        return respond(exchange, iterable)
    except BaseException as error:
        broke(exchange, error)
        finish(exchange)
        raise
    finally:
        detach(token)
        if plan.logs:
            # Servers write their access log after this, on this thread, in no context.
            answered.set(exchange)
