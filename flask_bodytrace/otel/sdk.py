"""The OpenTelemetry SDK, set up from the standard ``OTEL_*`` variables where nobody else did."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from importlib.metadata import EntryPoint, entry_points
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

in_use: IdentityRegistry[TracerProvider, bool] = IdentityRegistry()
"""The providers that living applications trace with."""

watchers: list[Callable[[TracerProvider], None]] = []
"""Called with each provider that comes into use; tests listen here."""

_OTLP_BY_PROTOCOL = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_PACKAGES = {
    "otlp": "flask-bodytrace[otlp]",
    "otlp_proto_http": "flask-bodytrace[otlp]",
    "otlp_proto_grpc": "opentelemetry-exporter-otlp-proto-grpc",
    "zipkin": "flask-bodytrace[zipkin]",
}


def tracer_provider(given: TracerProvider | None, app_name: str) -> TracerProvider:
    """The provider to use: the one given, else the global one, else one made from ``OTEL_*``.

    :param app_name: the service name where ``OTEL_SERVICE_NAME`` and
        ``OTEL_RESOURCE_ATTRIBUTES`` give none.
    :raises ConfigError: ``OTEL_TRACES_EXPORTER`` or ``OTEL_PYTHON_ID_GENERATOR`` names something
        that is not installed.
    """
    provider = _global_tracer_provider(app_name) if given is None else given
    in_use.get_or_make(provider, lambda: True)
    for watcher in tuple(watchers):
        watcher(provider)
    return provider


def _global_tracer_provider(app_name: str) -> TracerProvider:
    current = trace.get_tracer_provider()
    if not isinstance(current, ProxyTracerProvider):
        return current
    provider = SdkTracerProvider(resource=_resource(app_name), id_generator=_id_generator())
    for name in _exporter_names():
        exporter = _load("opentelemetry_traces_exporter", name, "OTEL_TRACES_EXPORTER")
        # Somebody reading the console waits for the span, not for a batch.
        processor = SimpleSpanProcessor if name == "console" else BatchSpanProcessor
        provider.add_span_processor(DeferredProcessor(partial(_make, processor, exporter)))
    trace.set_tracer_provider(provider)
    return provider


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

    def on_end(self, span: ReadableSpan) -> None:
        """Hand on what a sampled span has become."""
        processor = self._made.get("processor")
        if processor is None:
            if span.context is None or not span.context.trace_flags.sampled:
                return
            # No lock: with gevent, making it may switch to a request that would wait for ever.
            made = self._make()
            processor = self._made.setdefault("processor", made)
            if processor is not made:
                made.shutdown()
        processor.on_end(span)

    def shutdown(self) -> None:
        """Export what is left."""
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
    named = os.environ.get("OTEL_SERVICE_NAME") or "service.name=" in os.environ.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    return Resource.create({} if named else {"service.name": app_name})


def _id_generator() -> IdGenerator:
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    if name in {"", "bodytrace"}:
        return BusinessIdGenerator()
    generator: IdGenerator = _load("opentelemetry_id_generator", name, "OTEL_PYTHON_ID_GENERATOR")()
    return generator


def _exporter_names() -> list[str]:
    configured = os.environ.get("OTEL_TRACES_EXPORTER", "").strip()
    if configured:
        return _split(configured)
    # The specification's default is otlp to localhost. Where nobody asked for it, that is retries
    # and log lines in every test run, so an endpoint has to be named.
    named = {"OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} & set(os.environ)
    return ["otlp"] if named else []


def _split(names: str) -> list[str]:
    return [name for name in map(str.strip, names.split(",")) if name not in {"", "none"}]


def _find(group: str, name: str) -> EntryPoint | None:
    candidates = [name]
    if name == "otlp":
        protocol = os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "").strip()
        chosen = _OTLP_BY_PROTOCOL.get(protocol)
        candidates = [chosen] if chosen else [*_OTLP_BY_PROTOCOL.values(), name]
    elif name == "zipkin":
        candidates = ["zipkin_json", name]
    for candidate in candidates:
        for entry_point in entry_points(group=group, name=candidate):
            return entry_point
    return None


def _load(group: str, name: str, variable: str) -> Any:
    entry_point = _find(group, name)
    if entry_point is None:
        installed = ", ".join(sorted({e.name for e in entry_points(group=group)})) or "none"
        package = _PACKAGES.get(name)
        fix = f"pip install '{package}'" if package else "install the package that provides it"
        raise ConfigError(f"{variable}={name!r} is not installed (there is: {installed}): {fix}")
    return entry_point.load()
