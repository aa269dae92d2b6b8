"""The OpenTelemetry SDK, set up from the standard ``OTEL_*`` variables where nobody else did."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from importlib.metadata import entry_points
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider
from opentelemetry.sdk.metrics import MeterProvider as SdkMeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import ProxyTracerProvider, TracerProvider

from flask_bodytrace.exceptions import ConfigError

from .id_generator import BusinessIdGenerator
from .registry import IdentityRegistry

_log = logging.getLogger("flask_bodytrace")

in_use: IdentityRegistry[TracerProvider, bool] = IdentityRegistry()
"""The providers that living applications trace with."""

watchers: list[Callable[[TracerProvider], None]] = []
"""Called with each provider that comes into use; tests listen here."""

_OTLP_BY_PROTOCOL = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
OWN_OTLP = "otlp_bodytrace"
"""The exporter that stands in for OpenTelemetry's over HTTP."""
_PACKAGES = {
    OWN_OTLP: "flask-bodytrace[otlp]",
    "otlp_proto_http": "flask-bodytrace[otlp]",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "zipkin_json": "flask-bodytrace[zipkin]",
}
_BATCH_VARIABLES = (
    "OTEL_BSP_SCHEDULE_DELAY",
    "OTEL_BSP_EXPORT_TIMEOUT",
    "OTEL_BSP_MAX_QUEUE_SIZE",
    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
)


def tracer_provider(
    given: TracerProvider | None,
    app_name: str,
    *,
    own_encoder: bool = True,
    business_ids: Iterable[str] = (),
) -> TracerProvider:
    """The provider to use: the one given, else the global one, else one made from ``OTEL_*``.

    :param own_encoder: whether `flask_bodytrace.otlp` encodes spans that go by OTLP over HTTP.
    :param app_name: the service name where ``OTEL_SERVICE_NAME`` and
        ``OTEL_RESOURCE_ATTRIBUTES`` give none.
    :param business_ids: attributes that a provider made here tells viewers are business ids.
    :raises ConfigError: ``OTEL_TRACES_EXPORTER`` or ``OTEL_PYTHON_ID_GENERATOR`` names something
        that is not installed.
    """
    if given is None:
        given = _global_tracer_provider(app_name, own_encoder, tuple(business_ids))
    provider = given
    in_use.get_or_make(provider, lambda: True)
    for watcher in tuple(watchers):
        watcher(provider)
    return provider


def _global_tracer_provider(
    app_name: str, own_encoder: bool, business_ids: tuple[str, ...]
) -> TracerProvider:
    current = trace.get_tracer_provider()
    if not isinstance(current, ProxyTracerProvider):
        return current
    resource = _resource(app_name)
    if business_ids and "bodytrace.ids" not in resource.attributes:
        resource = resource.merge(Resource({"bodytrace.ids": business_ids}))
    provider = SdkTracerProvider(resource=resource, id_generator=_id_generator())
    variable = _named_by()
    names = _exporter_names(variable)
    if names:
        _check_batching()
    for name in names:
        exporter = _load("opentelemetry_traces_exporter", name, variable)
        if own_encoder and exporter.__module__.startswith("opentelemetry.exporter.otlp.proto.http"):
            exporter = _own_otlp(variable) or exporter
        # Somebody reading the console waits for the span, not for a batch.
        processor = SimpleSpanProcessor if name == "console" else BatchSpanProcessor
        provider.add_span_processor(DeferredProcessor(partial(_make, processor, exporter)))
    trace.set_tracer_provider(provider)
    return provider


def _own_otlp(variable: str) -> Any:
    """The exporter with an encoder of its own; None if it is not to be had."""
    try:
        return _load("opentelemetry_traces_exporter", OWN_OTLP, variable)
    except (ConfigError, ImportError) as error:
        _log.warning("spans are encoded by OpenTelemetry's own exporter: %s", error)
        return None


def _make(processor: Callable[..., SpanProcessor], exporter: Callable[[], Any]) -> SpanProcessor:
    return processor(exporter())


class DeferredProcessor(SpanProcessor):
    """Makes the processor it stands for when the first span has ended.

    Until then there is no thread and no connection: applications are imported before their server
    forks, or before gevent patches `threading`, and neither threads nor channels survive that.

    :param make: makes the processor, with its exporter.
    """

    def __init__(self, make: Callable[[], SpanProcessor]) -> None:
        self._make = make
        self._made: dict[str, SpanProcessor] = {}
        self._is_shut_down = False

    @property
    def exporter(self) -> Any:
        """Where spans go; None before the first one."""
        return getattr(self._made.get("processor"), "span_exporter", None)

    def on_end(self, span: ReadableSpan) -> None:
        """Pass an ended span on, if it is sampled."""
        processor = self._made.get("processor")
        if processor is None:
            if self._is_shut_down:
                return
            if span.context is None or not span.context.trace_flags.sampled:
                return
            # No lock: with gevent, making it may switch to a request that would wait for ever.
            made = self._make()
            processor = self._made.setdefault("processor", made)
            if processor is not made:
                made.shutdown()
        processor.on_end(span)

    def shutdown(self) -> None:
        """Export what is left; spans that end later are not exported."""
        self._is_shut_down = True
        for processor in self._made.values():
            processor.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what there is."""
        return all(processor.force_flush(timeout_millis) for processor in self._made.values())


def meter_provider(given: MeterProvider | None, app_name: str) -> MeterProvider | None:
    """The meter provider to use; None leaves it to the global one, whoever sets that later.

    One is made only where ``OTEL_METRICS_EXPORTER`` asks for it and the global one is still free.

    :raises ConfigError: ``OTEL_METRICS_EXPORTER`` names something that is not installed.
    """
    if given is not None:
        return given
    names = _split(os.environ.get("OTEL_METRICS_EXPORTER", ""))
    if not names or isinstance(metrics.get_meter_provider(), SdkMeterProvider):
        return None
    readers: list[MetricReader] = []
    for name in names:
        made = _load("opentelemetry_metrics_exporter", name, "OTEL_METRICS_EXPORTER")()
        readers.append(
            made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made)
        )
    provider = SdkMeterProvider(metric_readers=readers, resource=_resource(app_name))
    metrics.set_meter_provider(provider)
    return provider


def _resource(app_name: str) -> Resource:
    resource = Resource.create()
    # What the SDK calls a service that nobody named.
    named = str(resource.attributes.get("service.name", "unknown_service"))
    if os.environ.get("OTEL_SERVICE_NAME") or not named.startswith("unknown_service"):
        return resource
    return resource.merge(Resource({"service.name": app_name}))


def _check_batching() -> None:
    """Raise now the error that BatchSpanProcessor would raise at the first span."""
    values = {}
    for variable in _BATCH_VARIABLES:
        text = os.environ.get(variable, "").strip()
        if not text:
            continue
        if not (text.isascii() and text.isdigit()) or int(text[:18]) == 0:
            raise ConfigError(f"{variable}={text[:60]!r} is not accepted: use a positive integer")
        values[variable] = int(text[:18])
    queue = values.get("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
    batch = values.get("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
    if batch > queue:
        raise ConfigError(
            f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE={batch} is more than OTEL_BSP_MAX_QUEUE_SIZE={queue}: "
            "a batch is taken from the queue"
        )


def _id_generator() -> IdGenerator:
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    if name in {"", "bodytrace"}:
        return BusinessIdGenerator()
    generator: IdGenerator = _load("opentelemetry_id_generator", name, "OTEL_PYTHON_ID_GENERATOR")()
    return generator


def _exporter_names(variable: str) -> list[str]:
    if variable == "OTEL_TRACES_EXPORTER":
        return _split(os.environ[variable])
    return ["otlp"] if variable else []


def _named_by() -> str:
    """The variable that says where spans go; empty if none does.

    The specification's default is otlp to localhost. Where nobody asked for it, that is retries and
    log lines in every test run, so an endpoint has to be named.
    """
    if os.environ.get("OTEL_TRACES_EXPORTER", "").strip():
        return "OTEL_TRACES_EXPORTER"
    endpoints = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
    return next((name for name in endpoints if name in os.environ), "")


def _split(names: str) -> list[str]:
    return [name for name in map(str.strip, names.split(",")) if name not in {"", "none"}]


def _candidates(group: str, name: str) -> Sequence[str]:
    """The entry points that the name of an exporter may stand for, the first choice first."""
    if name == "otlp":
        chosen = _otlp_by_protocol("METRICS" if "metrics" in group else "TRACES")
        return [chosen] if chosen else [*_OTLP_BY_PROTOCOL.values(), name]
    return ["zipkin_json", name] if name == "zipkin" else [name]


def _otlp_by_protocol(signal: str) -> str | None:
    """The exporter that the protocol variables ask for; None if they are silent.

    :param signal: ``TRACES`` or ``METRICS``; its own variable counts before the general one.
    """
    for variable in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        protocol = os.environ.get(variable, "").strip()
        if protocol:
            if protocol not in _OTLP_BY_PROTOCOL:
                raise ConfigError(
                    f"{variable}={protocol[:60]!r} is not accepted: use one of "
                    f"{', '.join(_OTLP_BY_PROTOCOL)}"
                )
            return _OTLP_BY_PROTOCOL[protocol]
    return None


def _load(group: str, name: str, variable: str) -> Any:
    candidates = _candidates(group, name)
    package = _PACKAGES.get(candidates[0])
    fix = f"pip install '{package}'" if package else "install the package that provides it"
    # An endpoint's value is no name.
    is_endpoint = variable.endswith("_ENDPOINT")
    asked = f"{variable}: exporter {name!r}" if is_endpoint else f"{variable}={name!r}"
    for candidate in candidates:
        for entry_point in entry_points(group=group, name=candidate):
            try:
                return entry_point.load()
            except ModuleNotFoundError as error:
                raise ConfigError(f"{asked} needs {error.name}: {fix}") from error
    # Ours is there, but does nothing without what it stands in for.
    installed = ", ".join(sorted({e.name for e in entry_points(group=group)} - {OWN_OTLP}))
    raise ConfigError(f"{asked} is not installed (there is: {installed or 'none'}): {fix}")
