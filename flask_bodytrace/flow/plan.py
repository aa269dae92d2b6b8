"""What one application's requests need, made from its settings once and never changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from opentelemetry.sdk.resources import Resource
from opentelemetry.trace import NoOpTracer, get_tracer

from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.body.state import BodyRules
from flask_bodytrace.body.store import SpillQuota
from flask_bodytrace.capture.redactor import Redactor
from flask_bodytrace.exceptions import ConfigError
from flask_bodytrace.ids.extractor import compile_rules
from flask_bodytrace.ids.rules import source_name
from flask_bodytrace.log_once import LogOnce
from flask_bodytrace.otel import sdk
from flask_bodytrace.otel.fast_path import fast_path
from flask_bodytrace.otel.id_generator import BusinessIdGenerator
from flask_bodytrace.trace.attributes import known_methods
from flask_bodytrace.trace.exclusions import Exclusions, exclusions
from flask_bodytrace.trace.header_capture import (
    HeaderCapture,
    request_capture,
    response_capture,
)
from flask_bodytrace.trace.header_writer import HeaderWriter
from flask_bodytrace.trace.metrics import ServerMetrics
from flask_bodytrace.version import __version__

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from flask_bodytrace.calls.relay import Relay
    from flask_bodytrace.capture.documents import BodyCapture
    from flask_bodytrace.capture.record import BodyRecorder
    from flask_bodytrace.ids.extractor import IdExtractor
    from flask_bodytrace.otel.fast_path import FastPath
    from flask_bodytrace.settings import Settings

    from .keep import Keeping

_SCHEMA = "https://opentelemetry.io/schemas/1.36.0"


class Route(NamedTuple):
    """The matched route of a request."""

    rule: str | None
    arguments: Mapping[str, Any]


def _nothing(_environ: object) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """Functions that ask a web framework about a request, by its environ.

    :param route_of: what was matched; None before that, or if it cannot tell.
    :param has_route: whether the URL and its method will be matched, asked before they are; None
        if it cannot tell.
    :param span_of: the server span somebody else started since; None before that.
    :param has_late_ids: whether it looks for ids when the answer is made.
    :param sets_length: whether a body of unknown length gets a Content-Length once it is read.
    """

    route_of: Callable[[WSGIEnvironment], Route | None] = _nothing
    has_route: Callable[[WSGIEnvironment], bool] | None = None
    span_of: Callable[[WSGIEnvironment], Span | None] = _nothing
    sets_length: bool = False
    has_late_ids: bool = False


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Plan:
    """One application's settings, made into the objects that its requests use."""

    provider: TracerProvider
    tracer: Tracer
    fast: FastPath | None
    """Makes our spans; None where the tracer has to make them."""
    why_not_fast: str
    """Why the tracer has to make them; empty if there is nothing to say."""
    service_name: str

    bodies: BodyRules
    ids: IdExtractor
    scan_limit: int
    finds_ids_when_routed: bool
    """Whether ids can wait until the URL is matched: nobody needs them before."""
    trace_key: str
    hash_key: str = field(repr=False)
    baggage: bool
    chooses_trace_id: bool

    keeps: Keeping | None
    """Decides which requests are exported although they were not sampled; None: none is."""
    incoming: Any
    excluded: Exclusions | None
    known_methods: frozenset[str]
    route_of: Callable[[WSGIEnvironment], Route | None]
    has_route: Callable[[WSGIEnvironment], bool] | None
    span_of: Callable[[WSGIEnvironment], Span | None]

    headers: HeaderWriter | None
    metrics: ServerMetrics | None
    recorder: BodyRecorder | None
    redactor: Redactor
    request_headers: HeaderCapture | None
    response_headers: HeaderCapture | None
    logs: bool
    relay: Relay | None

    report: LogOnce
    """Logs what failed in here at one step of a request."""


def make_plan(
    settings: Settings,
    *,
    name: str,
    tracer_provider: TracerProvider | None,
    meter_provider: MeterProvider | None,
    framework: Framework,
) -> Plan:
    """Build the plan of one application from its settings.

    :param name: the service name where ``OTEL_*`` gives none.
    :raises ConfigError: what is configured cannot work together.
    """
    ids = compile_rules(settings.ids, hashed=settings.id_hash, key=settings.hash_key)
    provider = sdk.tracer_provider(
        tracer_provider, name, own_encoder=settings.otlp_encoder, business_ids=settings.ids
    )
    keeps = None
    if settings.keep:
        from flask_bodytrace.flow.keep import Keeping

        # Before the tracer, which takes the provider's sampler over.
        keeps = Keeping(settings.keep, provider, ids.hashers)
    tracer = get_tracer("flask_bodytrace", __version__, provider, _SCHEMA)
    chooses = isinstance(getattr(tracer, "id_generator", None), BusinessIdGenerator)
    # A tracer that makes no spans (OTEL_SDK_DISABLED) needs no ids for them.
    if settings.trace_key and not chooses and not isinstance(tracer, NoOpTracer):
        raise ConfigError(
            f"BODYTRACE_TRACE_KEY={settings.trace_key!r} needs a tracer provider with "
            "flask_bodytrace's id generator: set OTEL_PYTHON_ID_GENERATOR=bodytrace, or make it "
            "with TracerProvider(id_generator=BusinessIdGenerator()), or pass no provider and "
            "attach before another SDK sets one"
        )
    fast, why_not_fast = fast_path(tracer)
    metrics = None
    if settings.metrics:
        metrics = ServerMetrics(sdk.meter_provider(meter_provider, name))
    resource = getattr(provider, "resource", Resource.get_empty())
    service_name = str(resource.attributes.get("service.name", name))
    redactor = body_redactor(settings)
    report = LogOnce("tracing failed at '%s'; the request goes on without it")
    recorder = None
    if settings.capture_body != "never" or settings.capture_response != "never":
        from flask_bodytrace.capture.record import BodyRecorder

        recorder = BodyRecorder(
            body_capture(settings, redactor, report),
            settings.capture_limit,
            requests=settings.capture_body,
            responses=settings.capture_response,
        )
    if ids.late and not framework.has_late_ids:
        raise ConfigError(
            f"BODYTRACE_IDS has {source_name(ids.late[0][1][0])!r}, which only BodyTrace(app) of a "
            "Flask application can look at: call current_trace().set_id(name, value) instead"
        )
    relay = None
    if settings.relay_calls:
        from flask_bodytrace.calls.relay import Relay

        relay = Relay(provider, service_name)
    if settings.logs:
        from flask_bodytrace import logs

        logs.install()
    return Plan(
        provider=provider,
        tracer=tracer,
        fast=fast,
        why_not_fast=why_not_fast,
        service_name=service_name,
        bodies=_body_rules(settings, metrics, sets_length=framework.sets_length),
        ids=ids,
        # A body that is passed on can be read once, and not by us.
        scan_limit=min(settings.id_scan_limit, settings.body_limit),
        finds_ids_when_routed=framework.has_route is not None and bool(ids.steps),
        trace_key=settings.trace_key,
        hash_key=settings.hash_key,
        baggage=settings.baggage,
        chooses_trace_id=chooses,
        keeps=keeps,
        incoming=settings.incoming,
        excluded=exclusions(settings.excluded_urls),
        known_methods=known_methods(),
        route_of=framework.route_of,
        has_route=framework.has_route,
        span_of=framework.span_of,
        headers=HeaderWriter(settings.response_headers) if settings.response_headers else None,
        metrics=metrics,
        recorder=recorder,
        redactor=redactor,
        request_headers=request_capture(redactor),
        response_headers=response_capture(redactor),
        logs=settings.logs,
        relay=relay,
        report=report,
    )


def body_redactor(settings: Settings) -> Redactor:
    """Knows what is secret by the settings of one application."""
    return Redactor(settings.redact, patterns=settings.redact_values)


def body_capture(settings: Settings, redactor: Redactor, report: LogOnce) -> BodyCapture:
    """Makes text of bodies by the settings of one application."""
    from flask_bodytrace.capture.documents import BodyCapture
    from flask_bodytrace.capture.rules import Rules

    rules = Rules(
        [name for name in settings.redact if "." in name],
        settings.capture_only,
        settings.redact_callback,
        report,
    )
    return BodyCapture(settings.capture_limit, redactor, rules)


def _body_rules(
    settings: Settings, metrics: ServerMetrics | None, *, sets_length: bool
) -> BodyRules:
    rules = BodyRules(
        BufferPool(largest=settings.memory_limit, limit=settings.pool_limit),
        settings.memory_limit,
        settings.body_limit,
        reject=settings.over_limit == "reject",
        spill_quota=SpillQuota(settings.spill_limit),
        sets_length=sets_length,
    )
    if metrics is None:
        return rules
    metrics.observe(rules.pool)
    return replace(rules, on_event=metrics.body_event)
