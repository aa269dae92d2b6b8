"""OTLP 1.x as it comes over HTTP: bytes to spans and log records.

Pure and all or nothing: a request with anything malformed in it raises `BadRequest`, so that
nothing of it is kept. Protobuf needs opentelemetry-proto; JSON does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from .model import Attributes, Event, Link, LogRecord, Span
from .otlp_values import (
    AnyValue,
    BadRequest,
    Camel,
    KeyValue,
    ProtobufMissing,
    ReadId,
    ReadValue,
    Resource,
    Scope,
    decode,
    json_id,
    json_value,
    protobuf_id,
    protobuf_value,
    read_attributes,
    read_nanos,
    read_resource,
    read_scope,
)

__all__ = [
    "BadRequest",
    "ProtobufMissing",
    "logs_from_json",
    "logs_from_protobuf",
    "spans_from_json",
    "spans_from_protobuf",
]


class _Event(Camel, frozen=True):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[KeyValue] | None = None


class _Link(Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[KeyValue] | None = None


class _Status(Camel, frozen=True):
    message: str = ""
    code: int = 0


class _Span(Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str | None = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[KeyValue] | None = None
    dropped_attributes_count: int = 0
    events: list[_Event] | None = None
    dropped_events_count: int = 0
    links: list[_Link] | None = None
    dropped_links_count: int = 0
    status: _Status | None = None


class _ScopeSpans(Camel, frozen=True):
    scope: Scope | None = None
    spans: list[_Span] | None = None


class _ResourceSpans(Camel, frozen=True):
    resource: Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _TraceRequest(Camel, frozen=True):
    resource_spans: list[_ResourceSpans] | None = None


class _LogRecord(Camel, frozen=True):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    severity_number: int = 0
    severity_text: str = ""
    body: AnyValue | None = None
    attributes: list[KeyValue] | None = None
    trace_id: str | None = ""
    span_id: str | None = ""


class _ScopeLogs(Camel, frozen=True):
    scope: Scope | None = None
    log_records: list[_LogRecord] | None = None


class _ResourceLogs(Camel, frozen=True):
    resource: Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _LogsRequest(Camel, frozen=True):
    resource_logs: list[_ResourceLogs] | None = None


_json_traces = msgspec.json.Decoder(_TraceRequest)
_json_logs = msgspec.json.Decoder(_LogsRequest)


def spans_from_json(data: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest in JSON.

    :raises BadRequest: anything in it is malformed.
    """
    request = decode(lambda: _json_traces.decode(data))
    return list(_spans(request, json_id, json_value))


def spans_from_protobuf(data: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest in protobuf.

    :raises BadRequest: anything in it is malformed.
    :raises ProtobufMissing: opentelemetry-proto is not installed.
    """
    try:
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
            ExportTraceServiceRequest,
        )
    except ImportError:
        raise ProtobufMissing from None
    request = decode(lambda: ExportTraceServiceRequest.FromString(data))
    return list(_spans(request, protobuf_id, protobuf_value))


def logs_from_json(data: bytes) -> list[LogRecord]:
    """The log records of an ExportLogsServiceRequest in JSON.

    :raises BadRequest: anything in it is malformed.
    """
    request = decode(lambda: _json_logs.decode(data))
    return list(_logs(request, json_id, json_value))


def logs_from_protobuf(data: bytes) -> list[LogRecord]:
    """The log records of an ExportLogsServiceRequest in protobuf.

    :raises BadRequest: anything in it is malformed.
    :raises ProtobufMissing: opentelemetry-proto is not installed.
    """
    try:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    except ImportError:
        raise ProtobufMissing from None
    request = decode(lambda: ExportLogsServiceRequest.FromString(data))
    return list(_logs(request, protobuf_id, protobuf_value))


def _spans(request: Any, read_id: ReadId, read: ReadValue) -> Iterator[Span]:
    for resource_spans in request.resource_spans or ():
        resource, service = read_resource(resource_spans.resource, read)
        for scope_spans in resource_spans.scope_spans or ():
            scope = read_scope(scope_spans.scope)
            for span in scope_spans.spans or ():
                yield _span(span, resource, service, scope, read_id, read)


def _span(  # noqa: PLR0913, PLR0917 - what all spans of one resource and scope share is passed on
    span: Any,
    resource: Attributes,
    service: str,
    scope: str,
    read_id: ReadId,
    read: ReadValue,
) -> Span:
    trace_id = read_id(span.trace_id, 16)
    span_id = read_id(span.span_id, 8)
    if not trace_id or not span_id:
        raise BadRequest("a span without trace id or span id")
    status = span.status
    return Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_id=read_id(span.parent_span_id, 8) or None,
        name=span.name,
        kind=span.kind if 0 <= span.kind <= 5 else 0,
        start=read_nanos(span.start_time_unix_nano),
        end=read_nanos(span.end_time_unix_nano),
        status=status.code if status is not None and 0 <= status.code <= 2 else 0,
        status_message=status.message if status is not None else "",
        service=service,
        scope=scope,
        trace_state=span.trace_state,
        resource=resource,
        attributes=read_attributes(span.attributes, read),
        # Most spans have none: an empty list for each would be looked at by the garbage collector.
        events=[
            Event(e.name, read_nanos(e.time_unix_nano), read_attributes(e.attributes, read))
            for e in span.events or ()
        ]
        or (),
        links=[
            Link(
                read_id(x.trace_id, 16), read_id(x.span_id, 8), read_attributes(x.attributes, read)
            )
            for x in span.links or ()
        ]
        or (),
        dropped=span.dropped_attributes_count
        + span.dropped_events_count
        + span.dropped_links_count,
    )


def _logs(request: Any, read_id: ReadId, read: ReadValue) -> Iterator[LogRecord]:
    for resource_logs in request.resource_logs or ():
        _, service = read_resource(resource_logs.resource, read)
        for scope_logs in resource_logs.scope_logs or ():
            scope = read_scope(scope_logs.scope)
            for record in scope_logs.log_records or ():
                time = read_nanos(record.time_unix_nano)
                yield LogRecord(
                    trace_id=read_id(record.trace_id, 16),
                    span_id=read_id(record.span_id, 8) or None,
                    time=time or read_nanos(record.observed_time_unix_nano),
                    severity=record.severity_text,
                    severity_number=record.severity_number,
                    body=read(record.body, 0),
                    service=service,
                    scope=scope,
                    attributes=read_attributes(record.attributes, read),
                )
