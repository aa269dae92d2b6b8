"""The same for WSGI applications that are not Flask: `BodyTraceMiddleware`.

    application = BodyTraceMiddleware(get_wsgi_application(), name="shop", ids="order.id=orderId")

The body is re-readable by seeking ``environ["wsgi.input"]``, or by asking the environ for it again
after it was read to its end; ``current_trace()`` is the trace.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from .body.cached import CachedBody
from .body.stream import BodyStream
from .flow.plan import Framework, Plan, Route, make_plan
from .flow.run import run
from .settings import load

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider


class BodyTraceMiddleware:
    """Goes around a WSGI application.

    A body over the limit (with ``over_limit="reject"``) is answered with 413, one that ends before
    its Content-Length with 400, also where the application makes a 500 of it, since other
    frameworks do not know the exceptions that say so.

    :param app: the application.
    :param name: the service's name where ``OTEL_*`` gives none.
    :param route_of: environ -> the route that matched, for the span's name and ``http.route``,
        asked when the response starts; None where there is none. It must come from a bounded set.
    :param tracer_provider: as for `BodyTrace`.
    :param meter_provider: as for `BodyTrace`.
    :param settings: any setting by its lower-case name; ``FLASK_BODYTRACE_*`` variables come
        before them.
    :raises ConfigError: a setting is unknown, malformed or contradicts another.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        name: str = "wsgi",
        route_of: Callable[[WSGIEnvironment], str | None] | None = None,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        **settings: Any,
    ) -> None:
        self._app = app
        self._plan: Plan | None = None
        loaded = load({}, settings)
        if not loaded.enabled:
            return
        framework = Framework(sets_length=True)
        if route_of is not None:
            framework = replace(framework, route_of=_routes(route_of))
        self._plan = make_plan(
            loaded,
            name=name,
            tracer_provider=tracer_provider,
            meter_provider=meter_provider,
            framework=framework,
        )

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        if self._plan is None:
            return self._app(environ, start_response)
        return run(self._plan, self._answer, environ, start_response)

    def _answer(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        assert self._plan is not None
        stream = environ["wsgi.input"]
        if type(stream) is not BodyStream:
            return self._app(environ, start_response)
        rules = self._plan.bodies
        if rules.reject and (stream.body.declared or 0) > rules.body_limit:
            rules.on_event("rejected")
            return _refuse(RequestEntityTooLarge, start_response)
        return _Answer(stream.body, start_response).of(self._app, environ)


class _Answer:
    """An application's answer, or ours where the body it wanted cannot be had."""

    def __init__(self, body: CachedBody, start_response: StartResponse) -> None:
        self._body = body
        self._start_response = start_response
        self._started = False
        self._refusal: list[bytes] | None = None
        self._iterable: Iterable[bytes] = ()

    def of(self, app: WSGIApplication, environ: WSGIEnvironment) -> Iterable[bytes]:
        """What `app` answers."""
        try:
            self._iterable = app(environ, self._start)
        except Exception:
            if self._body.failure is None:
                raise
            self._refuse(self._body.failure)
        if self._refusal is not None:
            self.close()
            return self._refusal
        # Or it starts when its first chunk is asked for, and may fail until then.
        return self._iterable if self._started else self

    def _start(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        if str(status).startswith("5") and self._body.failure is not None:
            self._refuse(self._body.failure)
        if self._refusal is not None:
            return lambda _data: None
        self._started = True
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def _refuse(self, failure: type[HTTPException]) -> None:
        if self._refusal is None:
            # An answer that was started may be replaced as long as nothing of it went out.
            exc_info = sys.exc_info() if self._started else None
            self._refusal = _refuse(failure, self._start_response, exc_info)

    def __iter__(self) -> Iterator[bytes]:
        try:
            for chunk in self._iterable:
                if self._refusal is not None:
                    break
                yield chunk
        except Exception:
            if self._body.failure is None or self._started:
                raise
            self._refuse(self._body.failure)
        if self._refusal is not None:
            yield from self._refusal

    def close(self) -> None:
        """Close what the application returned."""
        close = getattr(self._iterable, "close", None)
        if close is not None:
            close()


def _refuse(
    failure: type[HTTPException], start_response: StartResponse, exc_info: Any = None
) -> list[bytes]:
    """Answer for a body that cannot be had."""
    error = failure()
    text = f"{error.code} {error.name}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text)))]
    status = f"{error.code} {error.name}"
    if exc_info is None:
        start_response(status, headers)
    else:
        start_response(status, headers, exc_info)
    return [text]


def _routes(
    route_of: Callable[[WSGIEnvironment], str | None],
) -> Callable[[WSGIEnvironment], Route | None]:
    def route(environ: WSGIEnvironment) -> Route | None:
        rule = route_of(environ)
        return None if rule is None else Route(rule, {})

    return route
