"""`BodyTrace.init_app`: the settings read, everything wired, nothing else."""

from __future__ import annotations

import os
import re
import weakref
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from flask import Flask, Response, got_request_exception, request
from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NoOpTracer, Span, get_tracer
from opentelemetry.util.http import (
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST,
    OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE,
)
from werkzeug.exceptions import HTTPException

from .body.cached import BodyRules
from .body.pool import BufferPool
from .exceptions import BodyTraceError, ConfigError
from .flask.g import tracing_globals
from .flask.hooks import Hooks, RequestHook, ResponseHook
from .flask.request import replayable
from .flow.exchange import Exchange, run
from .flow.plan import Plan, Route
from .ids.extractor import compile_rules
from .otel import context as runtime
from .otel import sdk
from .otel.fast_span import IS_KNOWN, Recorder
from .otel.id_generator import BusinessIdGenerator
from .otel.sampling import foresee
from .settings import Settings, load
from .trace.current import TRACE_KEY
from .trace.headers import HeaderWriter
from .trace.metrics import ServerMetrics
from .trace.redact import Redactor
from .version import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

RequestHookT = TypeVar("RequestHookT", bound=RequestHook)
ResponseHookT = TypeVar("ResponseHookT", bound=ResponseHook)
SessionT = TypeVar("SessionT")

_INSTRUMENTED = "_is_instrumented_by_opentelemetry"
_SCHEMA = "https://opentelemetry.io/schemas/1.36.0"


@dataclass(frozen=True, slots=True)
class State:
    """What ``app.extensions["bodytrace"]`` holds; `plan` is None while switched off."""

    settings: Settings
    plan: Plan | None = None


class BodyTrace:
    """The extension: ``BodyTrace(app)``, or ``BodyTrace()`` and `init_app` later.

    :param app: the application.
    :param tracer_provider: makes the spans; default the global one, set up from the ``OTEL_*``
        variables if nobody did.
    :param meter_provider: takes the metrics; default the global one.
    :param on_request: called with (trace, request) before anything else of the application.
    :param on_response: called with (trace, response) after everything else of it.
    :param settings: any setting by its lower-case name, such as ``body_limit="1MiB"``; the
        environment and ``app.config`` come before it.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        on_request: RequestHook | None = None,
        on_response: ResponseHook | None = None,
        **settings: Any,
    ) -> None:
        self._hooks = Hooks()
        if on_request is not None:
            self._hooks.on_request(on_request)
        if on_response is not None:
            self._hooks.on_response(on_response)
        self._tracer_provider = tracer_provider
        self._meter_provider = meter_provider
        self._keywords = settings
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Attach to `app`. Settings are read here, once; changes made later have no effect.

        :raises ConfigError: a setting is unknown, malformed or contradicts another.
        :raises BodyTraceError: `app` has the extension already.
        """
        if "bodytrace" in app.extensions:
            raise BodyTraceError(
                f"BodyTrace is already attached to {app!r}: call init_app once, and for another "
                "configuration make another app"
            )
        settings = load(app.config, self._keywords)
        if not settings.enabled:
            app.extensions["bodytrace"] = State(settings)
            return
        plan = make_plan(
            settings,
            name=app.name,
            tracer_provider=self._tracer_provider,
            meter_provider=self._meter_provider,
            route_of=_route_of,
            span_of=_span_of,
        )
        app.extensions["bodytrace"] = State(settings, plan)
        _attach(app, plan)
        self._hooks.attach(app)
        if settings.viewer == "on" or (settings.viewer == "auto" and app.debug):
            from .viewer.mount import mount

            mount(app, settings, plan.provider)

    def on_request(self, hook: RequestHookT) -> RequestHookT:
        """Decorator: call ``hook(trace, request)`` once the URL is matched, before other hooks.

        An exception in it is logged, once per kind, and changes nothing else.
        """
        self._hooks.on_request(hook)
        return hook

    def on_response(self, hook: ResponseHookT) -> ResponseHookT:
        """Decorator: call ``hook(trace, response)`` after all ``after_request`` functions.

        The trace headers are not on the response yet; they also go on answers that no hook sees.
        An exception in it is logged, once per kind, and changes nothing else.
        """
        self._hooks.on_response(hook)
        return hook

    def watch(self, session: SessionT) -> SessionT:
        """Let the calls made through `session` belong to the requests that make them.

        See `flask_bodytrace.client.watch`.

        :param session: a `requests.Session`, `httpx.Client` or `httpx.AsyncClient`.
        :raises TypeError: it is none of them.
        """
        from .client import watch

        return watch(session)


def _adopt_classes(app: Flask, plan: Plan) -> None:
    classes: Any = vars(app)
    # Not by setattr, which comes here.
    classes["request_class"] = replayable(app.request_class, plan.bodies, app.config)
    classes["app_ctx_globals_class"] = tracing_globals(app.app_ctx_globals_class)


def _expect_late_span(app: Flask, plan: Plan) -> None:
    """See whether OpenTelemetry's Flask instrumentation is on, which starts the span after us."""
    vars(app).setdefault(_INSTRUMENTED, getattr(app, _INSTRUMENTED, False))
    plan.late_span = None
    if vars(app)[_INSTRUMENTED]:
        plan.late_span = partial(_late_span, weakref.ref(app))


def _late_span(reference: weakref.ref[Flask]) -> bool:
    app: Any = reference()
    hooks = app.before_request_funcs[None]
    if _take_over not in hooks:
        hooks.insert(hooks.index(app._before_request) + 1, _take_over)
    return True


class _Watched:
    """An attribute of an application that may change after init_app.

    It has no ``__get__``: reading the attribute costs what it always does.

    :param changed: called with the application and its plan after each change.
    """

    def __init__(self, changed: Callable[[Flask, Plan], None]) -> None:
        self._changed = changed

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, app: _Traced, value: Any) -> None:
        vars(app)[self._name] = value
        self._changed(app, app._bodytrace_plan)

    def __delete__(self, app: _Traced) -> None:
        self.__set__(app, getattr(super(_Traced, app), self._name, False))


class _Traced(Flask):
    """Goes in front of an application's own class.

    Methods, not closures on the instance: ``app.wsgi_app`` keeps the application alive wherever it
    is handed to, and the application is still freed without the garbage collector.
    """

    _bodytrace_plan: Plan
    request_class = _Watched(_adopt_classes)  # type: ignore[assignment]
    app_ctx_globals_class = _Watched(_adopt_classes)  # type: ignore[assignment]
    config = _Watched(_adopt_classes)  # type: ignore[assignment]
    _is_instrumented_by_opentelemetry = _Watched(_expect_late_span)

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return run(self._bodytrace_plan, super().wsgi_app, environ, start_response)

    def full_dispatch_request(self) -> Response:
        # By the context, which is quicker than asking `request`; it is another's if this dispatches
        # a request made by hand.
        exchange: Any = runtime.current().get(TRACE_KEY)
        plan = self._bodytrace_plan
        if exchange is None or exchange.awaited_by is not plan:
            return super().full_dispatch_request()
        exchange.awaited_by = None
        # As a before_request function would, that comes first, without the 0.3 us that
        # calling one takes.
        if exchange.is_recording or (plan.baggage and plan.ids.reads_path):
            exchange.bind()
        response = super().full_dispatch_request()
        if (
            plan.is_direct
            and type(response) is Response
            and type(response.response) is list
            and not response._on_close
        ):
            # Nothing of the application runs while this goes out: no need to watch each chunk,
            # which takes 4 us.
            response._on_close.append(exchange.finish)
            exchange.is_complete = True
        return response

    def handle_user_exception(self, e: Exception) -> Any:
        # The signal fires for unhandled exceptions only; those that a handler answers for come
        # here.
        _failed(e)
        return super().handle_user_exception(e)


def _attach(app: Flask, plan: Plan) -> None:
    _adopt_classes(app, plan)
    _expect_late_span(app, plan)
    got_request_exception.connect(_on_exception, app)
    outer = app.__dict__.get("wsgi_app")
    own = type(app)
    plan.is_direct = outer is None and own.wsgi_app is Flask.wsgi_app
    app.__class__ = type(
        own.__name__,
        (_Traced, own),
        {
            "__module__": own.__module__,
            "__doc__": own.__doc__,
            "_bodytrace_plan": plan,
        },
    )
    if outer is not None:
        # Wrapped already, by ProxyFix or the like: then we go around that.
        app.wsgi_app = partial(run, plan, outer)  # type: ignore[method-assign]


def _take_over() -> None:
    exchange = _current_exchange()
    if exchange is not None:
        exchange.take_over()


def _span_of(environ: WSGIEnvironment) -> Span | None:
    """The span OpenTelemetry's Flask instrumentation started in its own before_request."""
    return environ.get("opentelemetry-flask.span_key")


def _on_exception(_sender: Flask, exception: BaseException, **_: Any) -> None:
    _failed(exception)


def _failed(error: BaseException) -> None:
    exchange = _current_exchange()
    # abort() and routing are answers, not failures.
    if exchange is None:
        return
    if isinstance(error, BodyTraceError) or not isinstance(error, HTTPException):
        exchange.failed(error)


def _current_exchange() -> Exchange | None:
    exchange = request.environ.get(TRACE_KEY)
    return exchange if isinstance(exchange, Exchange) else None


def _route_of(environ: WSGIEnvironment) -> Route | None:
    matched = environ.get("werkzeug.request")
    rule = getattr(matched, "url_rule", None)
    if matched is None or rule is None:
        return None
    return Route(rule.rule, matched.view_args or {})


def make_plan(
    settings: Settings,
    *,
    name: str,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    **framework: Any,
) -> Plan:
    """Make the settings into what a request needs; shared with `BodyTraceMiddleware`.

    :param name: the service name where ``OTEL_*`` gives none.
    :param framework: `Plan`'s `route_of`, `late_span` and `span_of`.
    :raises ConfigError: what is configured cannot work together.
    """
    provider = sdk.tracer_provider(tracer_provider, name)
    tracer = get_tracer("flask_bodytrace", __version__, provider, _SCHEMA)
    chooses = isinstance(getattr(tracer, "id_generator", None), BusinessIdGenerator)
    # A tracer that makes no spans (OTEL_SDK_DISABLED) needs no ids for them.
    if settings.trace_key and not chooses and not isinstance(tracer, NoOpTracer):
        raise ConfigError(
            f"BODYTRACE_TRACE_KEY={settings.trace_key!r} needs a tracer provider with "
            "flask_bodytrace's id generator: set OTEL_PYTHON_ID_GENERATOR=bodytrace, or make it "
            "with TracerProvider(id_generator=BusinessIdGenerator()), or pass no provider"
        )
    metrics = None
    if settings.metrics:
        metrics = ServerMetrics(sdk.meter_provider(meter_provider, name))
    pool = BufferPool(largest=settings.memory_limit, limit=settings.pool_limit)
    bodies = BodyRules(
        pool, settings.memory_limit, settings.body_limit, settings.over_limit == "reject"
    )
    if metrics is not None:
        metrics.observe(pool)
        bodies = replace(bodies, on_event=metrics.body_event)
    redactor = Redactor(settings.redact)
    capture = None
    if settings.capture_body != "never":
        from .trace.capture import BodyCapture

        capture = BodyCapture(
            settings.capture_limit, redactor, always=settings.capture_body == "always"
        )
    if settings.logs:
        from . import logs

        logs.install()
    resource = getattr(provider, "resource", Resource.get_empty())
    service_name = str(resource.attributes.get("service.name", name))
    relay = None
    if settings.relay_calls:
        from .calls.relay import Relay

        relay = Relay(provider, service_name)
    foresight = foresee(tracer) if IS_KNOWN else None
    return Plan(
        provider=provider,
        tracer=tracer,
        bodies=bodies,
        ids=compile_rules(settings.ids, hashed=settings.id_hash, key=settings.hash_key),
        # A body that is passed on can be read once, and not by us.
        scan_limit=min(settings.id_scan_limit, settings.body_limit),
        trace_key=settings.trace_key,
        hash_key=settings.hash_key,
        baggage=settings.baggage,
        incoming=settings.incoming,
        excluded=_excluded(settings),
        headers=HeaderWriter(settings.response_headers) if settings.response_headers else None,
        metrics=metrics,
        capture=capture,
        logs=settings.logs,
        relay=relay,
        recorder=None if foresight is None else Recorder(foresight),
        service_name=service_name,
        redactor=redactor,
        chooses_trace_id=chooses,
        captures_request_headers=bool(
            os.environ.get(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_REQUEST)
        ),
        captures_response_headers=bool(
            os.environ.get(OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_SERVER_RESPONSE)
        ),
        **framework,
    )


def _excluded(settings: Settings) -> re.Pattern[str] | None:
    patterns = list(settings.excluded_urls)
    # OpenTelemetry's variable for its own Flask instrumentation, and its general one, count too.
    standard = os.environ.get("OTEL_PYTHON_FLASK_EXCLUDED_URLS") or os.environ.get(
        "OTEL_PYTHON_EXCLUDED_URLS", ""
    )
    patterns += filter(None, (pattern.strip() for pattern in standard.split(",")))
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns)) if patterns else None
