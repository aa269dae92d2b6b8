"""What Traceloop exports, in one form: handed over in the process, or sent over a socket."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

_WAIT_S = 30


@dataclass(frozen=True)
class Arrived:
    """A span as its receiver sees it.

    :param parent_id: empty for a root; ids are hexadecimal.
    """

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[str]


class Arrivals(SpanExporter):
    """The spans that arrived, as an exporter and as what listens behind a socket."""

    def __init__(self) -> None:
        self._spans: list[Arrived] = []
        self._more = threading.Condition()
        self.metrics: set[str] = set()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Take spans from a processor in this process."""
        self._add(encode_spans(spans))
        return SpanExportResult.SUCCESS

    def take(self, path: str, body: bytes) -> None:
        """Take what was posted: spans, and of metrics the names."""
        if path == "/v1/traces":
            self._add(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                for scope in resource.scope_metrics:
                    self.metrics |= {metric.name for metric in scope.metrics}

    def _add(self, request: ExportTraceServiceRequest) -> None:
        spans = [
            Arrived(
                span.name,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                {each.key: _plain(each.value) for each in span.attributes},
                [event.name for event in span.events],
            )
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        with self._more:
            self._spans += spans
            self._more.notify_all()

    def of(self, trace_id: str, *names: str, more: str = "") -> list[Arrived]:
        """Wait until a trace has spans of these names: these, in this order.

        :param more: the name of spans of which there may be any number, left out.
        :raises AssertionError: they did not come, or others came as well.
        """

        def found() -> list[Arrived]:
            of_trace = [span for span in self._spans if span.trace_id == trace_id]
            return [span for span in of_trace if span.name != more]

        with self._more:
            self._more.wait_for(lambda: len(found()) >= len(names), _WAIT_S)
            spans = sorted(found(), key=lambda span: (*names, span.name).index(span.name))
        assert [span.name for span in spans] == list(names), (trace_id, spans, self._spans)
        return spans


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return None if kind is None else getattr(value, kind)
