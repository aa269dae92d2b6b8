"""`BodyTrace.init_app`: the settings read, everything wired, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

from flask import Flask

from .capture.rules import RedactCallback
from .exceptions import BodyTraceError, ConfigError
from .flask.attach import attach, framework_of
from .flask.hooks import Hooks, RequestHook, ResponseHook
from .flow.plan import Plan, make_plan
from .settings import Incoming, Settings, load

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider
    from typing_extensions import Unpack

RequestHookT = TypeVar("RequestHookT", bound=RequestHook)
ResponseHookT = TypeVar("ResponseHookT", bound=ResponseHook)
SessionT = TypeVar("SessionT")


OnOff: TypeAlias = "bool | str"
Size: TypeAlias = "int | str"
Names: TypeAlias = "str | list[str] | tuple[str, ...] | set[str] | frozenset[str]"
IdSource: TypeAlias = str | Callable[[], object]
IdRules: TypeAlias = (
    str
    | Mapping[str, IdSource | list[IdSource] | tuple[IdSource, ...]]
    | list[str]
    | tuple[str, ...]
)
CaptureWhen: TypeAlias = Literal["never", "errors", "server-errors", "always"]


class SettingKeywords(TypedDict, total=False):
    """The settings as keywords of `BodyTrace`, for type checkers.

    What each does is in `Settings`; ``tests/typing`` keeps the two in step.
    """

    enabled: OnOff
    memory_limit: Size
    body_limit: Size
    over_limit: Literal["pass", "reject"]
    spill_limit: Size
    pool_limit: Size
    ids: IdRules
    id_scan_limit: Size
    id_hash: Names
    hash_key: str
    baggage: OnOff
    trace_key: str
    incoming: Incoming | Callable[[Mapping[str, Any]], Incoming]
    excluded_urls: Names
    keep: Names
    response_headers: Names
    metrics: OnOff
    otlp_encoder: OnOff
    logs: OnOff
    capture_body: CaptureWhen
    capture_response: CaptureWhen
    capture_limit: Size
    capture_only: Names
    redact: Names
    redact_values: Names
    redact_callback: RedactCallback
    relay_calls: OnOff
    viewer: Literal["auto", "on", "off"]
    viewer_token: str


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
        **settings: Unpack[SettingKeywords],
    ) -> None:
        self._hooks = Hooks()
        if on_request is not None:
            self._hooks.on_request.append(on_request)
        if on_response is not None:
            self._hooks.on_response.append(on_response)
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
        if not isinstance(app, Flask):
            raise ConfigError(
                f"BodyTrace takes a Flask application, not {app!r}: others go into "
                "flask_bodytrace.wsgi.BodyTraceMiddleware"
            )
        _check_provider("tracer_provider", self._tracer_provider, "get_tracer")
        _check_provider("meter_provider", self._meter_provider, "get_meter")
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
            framework=framework_of(app),
        )
        app.extensions["bodytrace"] = State(settings, plan)
        attach(app, plan, self._hooks)
        if settings.viewer == "on" or (settings.viewer == "auto" and app.debug):
            from .viewer.mount import mount

            mount(app, settings, plan.provider)

    def on_request(self, hook: RequestHookT) -> RequestHookT:
        """Decorator: call ``hook(trace, request)`` once the URL is matched, before other hooks.

        An exception in it is logged, once per kind, and changes nothing else.
        """
        self._hooks.on_request.append(hook)
        return hook

    def on_response(self, hook: ResponseHookT) -> ResponseHookT:
        """Decorator: call ``hook(trace, response)`` after all ``after_request`` functions.

        The trace headers are not on the response yet; they also go on answers that no hook sees.
        An exception in it is logged, once per kind, and changes nothing else.
        """
        self._hooks.on_response.append(hook)
        return hook

    def watch(self, session: SessionT) -> SessionT:
        """Let the calls made through `session` belong to the requests that make them.

        See `flask_bodytrace.client.watch`.

        :param session: a `requests.Session`, `httpx.Client` or `httpx.AsyncClient`.
        :raises TypeError: it is none of them.
        """
        from .client import watch

        return watch(session)


def _check_provider(name: str, given: object, method: str) -> None:
    if given is not None and not callable(getattr(given, method, None)):
        kind = "TracerProvider" if method == "get_tracer" else "MeterProvider"
        raise ConfigError(
            f"{name}={str(given)[:60]!r} is no {kind}: pass an object that has {method}(), or none "
            "and set the OTEL_* variables"
        )
