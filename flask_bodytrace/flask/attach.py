"""Attaching to an application: ``app.wsgi_app`` wrapped, a hook before requests, one after them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Flask, Request, Response, got_request_exception, has_request_context, request
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from flask_bodytrace.exceptions import BodyTraceError
from flask_bodytrace.flow.begin import unserved
from flask_bodytrace.flow.bind import bind, bind_matched, take_over
from flask_bodytrace.flow.finish import failed
from flask_bodytrace.flow.plan import Framework, Plan, Route
from flask_bodytrace.flow.respond import with_trace_headers
from flask_bodytrace.flow.run import run
from flask_bodytrace.trace.current import TRACE_KEY, RequestTrace, frameworks
from flask_bodytrace.trace.header_writer import without

from .g import with_trace
from .hooks import Hooks, call_hooks
from .late_ids import find_late_ids
from .request import replayable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment
    from opentelemetry.trace import Span

    from flask_bodytrace.flow.exchange import Exchange


_ITER_ENCODED, _CLOSE = Response.iter_encoded, Response.close
"""A response class with its own runs code of the application while its answer goes out."""

current_request: Callable[[], Request] = request._get_current_object  # type: ignore[attr-defined]


def attach(app: Flask, plan: Plan, hooks: Hooks) -> None:
    """Trace `app` from now on.

    :param hooks: the application's; more may come later.
    """
    outer = app.wsgi_app
    # What ProxyFix makes of X-Forwarded-* is what the request says, so tracing goes inside it.
    inner = outer.app if isinstance(outer, ProxyFix) else outer
    traced = TracedWsgiApp(inner, app, plan)
    if isinstance(outer, ProxyFix):
        outer.app = traced
    else:
        app.wsgi_app = traced  # type: ignore[method-assign]
    is_direct = getattr(inner, "__func__", None) is Flask.wsgi_app
    before, after = _before_request(plan, hooks), _after_request(plan, hooks, is_direct=is_direct)
    app.before_request_funcs.setdefault(None, []).insert(0, before)
    # Flask calls these last to first.
    app.after_request_funcs.setdefault(None, []).insert(0, after)
    # The signal tells of exceptions that nobody handles. For those that an error handler answers
    # Flask has no hook, so the method that looks for the handler is wrapped.
    got_request_exception.connect(_on_exception, app)
    app.handle_user_exception = partial(  # type: ignore[method-assign]
        _handle_user_exception, app.handle_user_exception
    )


class TracedWsgiApp:
    """The WSGI object around an application's ``wsgi_app``."""

    def __init__(self, inner: WSGIApplication, app: Flask, plan: Plan) -> None:
        self._inner = inner
        self._app = app
        self._plan = plan
        self._adopt_classes()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        app = self._app
        if (
            app.request_class is not self._request_class
            or app.app_ctx_globals_class is not self._globals_class
            or app.config is not self._config
        ):
            # Set after init_app; Flask tells nobody.
            self._adopt_classes()
        # OpenTelemetry's Flask instrumentation, too, may be switched on later, and off again.
        is_instrumented = getattr(app, "_is_instrumented_by_opentelemetry", False)
        awaits_span = is_instrumented and _follow_opentelemetry(app)
        return run(self._plan, self._inner, environ, start_response, awaits_span)

    def _adopt_classes(self) -> None:
        """Make the application's own classes of request and ``g`` into those of traced ones."""
        app: Any = self._app
        self._config = app.config
        app.app_ctx_globals_class = with_trace(app.app_ctx_globals_class)
        self._globals_class = app.app_ctx_globals_class
        app.request_class = replayable(app.request_class, self._plan.bodies, app.config)
        self._request_class = app.request_class


def _before_request(plan: Plan, hooks: Hooks) -> Callable[[], None]:
    """What Flask calls first for every request: the URL is matched, so the route is bound."""

    def before_request() -> None:
        try:
            # The request itself: the proxy would look for it at every attribute.
            current = current_request()
            exchange = current.environ.get(TRACE_KEY) or unserved(plan, current.environ)
            rule = current.url_rule
            if (
                rule is not None
                and not exchange.is_bound
                and (exchange.is_recording or exchange.plan.baggage)
            ):
                bind(exchange, rule.rule, current.view_args or {})
            if hooks.on_request:
                call_hooks("on_request", hooks.on_request, exchange, current)
        except Exception:  # noqa: BLE001 - the application must get the request
            plan.report("before_request")

    return before_request


def _after_request(plan: Plan, hooks: Hooks, *, is_direct: bool) -> Callable[[Response], Response]:
    """What Flask calls last for every response: puts the trace headers on it.

    :param is_direct: whether nothing of the application's comes between its responses and us.
    """

    def after_request(response: Response) -> Response:
        try:
            # The request itself: the proxy would look for it at every attribute.
            current = current_request()
            exchange = current.environ.get(TRACE_KEY) or unserved(plan, current.environ)
            if exchange.plan.ids.late:
                find_late_ids(exchange)
            if hooks.on_response:
                call_hooks("on_response", hooks.on_response, exchange, response)
            if exchange.plan.headers is not None and exchange.writes_headers:
                _write_headers(exchange, response)
            chunks = response.response
            kind = type(response)
            if (
                is_direct
                and type(chunks) is list
                and kind.iter_encoded is _ITER_ENCODED
                and kind.close is _CLOSE
            ):
                exchange.complete = chunks
            else:
                exchange.complete = None
        except Exception:  # noqa: BLE001 - the response goes out as it is
            plan.report("after_request")
        return response

    return after_request


def _write_headers(exchange: Exchange, response: Response) -> None:
    """Write the trace headers on a response.

    A view may share one response object between requests, so headers of another one may be on it.
    `start_response` sees to it that the right ones go out even if two requests are here at once.
    """
    if exchange.relayed is not None:
        bind_matched(exchange)
        exchange.status = response.status_code
    # Werkzeug's own list: its methods cost several calls for each header.
    entries = response.headers._list
    headers = entries[:]
    # Read after the headers, and set before them: whoever sees headers of ours knows whose.
    written = getattr(response, "_bodytrace_written", None)
    if written is not None:
        headers = without(headers, written)
    headers = with_trace_headers(exchange, headers)
    response._bodytrace_written = exchange.written  # type: ignore[attr-defined]
    entries[:] = headers


def _handle_user_exception(inner: Callable[[Exception], Any], error: Exception) -> Any:
    _note(error)
    return inner(error)


def _on_exception(_sender: Flask, exception: BaseException, **_: Any) -> None:
    _note(exception)


def _note(error: BaseException) -> None:
    exchange = request.environ.get(TRACE_KEY)
    # abort() and routing are answers, not failures.
    if exchange is not None and (
        isinstance(error, BodyTraceError) or not isinstance(error, HTTPException)
    ):
        failed(exchange, error)


def _trace_of_request() -> RequestTrace | None:
    return request.environ.get(TRACE_KEY) if has_request_context() else None


frameworks.append(_trace_of_request)


def _follow_opentelemetry(app: Any) -> bool:
    """Have `_take_over` called after the hook that starts OpenTelemetry's span.

    Returns whether that hook is there.
    """
    hooks = app.before_request_funcs.get(None, ())
    theirs = getattr(app, "_before_request", None)
    if theirs not in hooks:
        return False
    if _take_over not in hooks:
        hooks.insert(hooks.index(theirs) + 1, _take_over)
    return True


def _take_over() -> None:
    exchange = request.environ.get(TRACE_KEY)
    if exchange is not None:
        take_over(exchange)


def framework_of(app: Flask) -> Framework:
    """What Flask tells of a request of `app`."""

    def has_route(environ: WSGIEnvironment) -> bool:
        try:
            app.url_map.bind_to_environ(environ, app.config["SERVER_NAME"]).match()
        except Exception:  # noqa: BLE001 - also a converter's own: the application meets it again
            return False
        return True

    return Framework(route_of=_route_of, has_route=has_route, span_of=_span_of, has_late_ids=True)


def _route_of(environ: WSGIEnvironment) -> Route | None:
    matched = environ.get("werkzeug.request")
    rule = getattr(matched, "url_rule", None)
    if matched is None or rule is None:
        return None
    return Route(rule.rule, matched.view_args or {})


def _span_of(environ: WSGIEnvironment) -> Span | None:
    """The span OpenTelemetry's Flask instrumentation started in its own before_request."""
    return environ.get("opentelemetry-flask.span_key")
