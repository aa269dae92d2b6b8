"""OTLP 1.x as it comes over HTTP: bytes to spans and log records.

Pure and all or nothing: a request with anything malformed in it raises `BadRequest`, so that
nothing of it is kept. Protobuf needs opentelemetry-proto; JSON does not. JSON follows the
OTLP specification, "JSON Protobuf Encoding": ids are hex, enumerations numbers, 64-bit integers
numbers or strings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

from .model import Attributes, Event, Link, LogRecord, Span, Value

_MAX_DEPTH = 32
_MAX_NANOS = (1 << 64) - 1
_UNKNOWN_SERVICE = "unknown_service"


class BadRequest(ValueError):
    """The bytes are no valid OTLP request; the message says why, for the sender's log."""


class ProtobufMissing(Exception):
    """opentelemetry-proto is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "protobuf needs opentelemetry-proto: pip install 'flask-bodytrace[viewer]'"
        )


# The JSON mapping. Field names are the protobuf's, so that one reader serves both.


class _Camel(Struct, rename="camel", frozen=True):
    pass


class _AnyValue(_Camel, frozen=True):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _ArrayValue | None = None
    kvlist_value: _KeyValueList | None = None
    bytes_value: str | None = None


class _KeyValue(_Camel, frozen=True):
    key: str = ""
    value: _AnyValue | None = None


class _ArrayValue(_Camel, frozen=True):
    values: list[_AnyValue] | None = None


class _KeyValueList(_Camel, frozen=True):
    values: list[_KeyValue] | None = None


class _Resource(_Camel, frozen=True):
    attributes: list[_KeyValue] | None = None


class _Scope(_Camel, frozen=True):
    name: str = ""
    version: str = ""


class _Event(_Camel, frozen=True):
    time_unix_nano: int | str = 0
    name: str = ""
    attributes: list[_KeyValue] | None = None


class _Link(_Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    attributes: list[_KeyValue] | None = None


class _Status(_Camel, frozen=True):
    message: str = ""
    code: int = 0


class _Span(_Camel, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    trace_state: str = ""
    parent_span_id: str | None = ""
    name: str = ""
    kind: int = 0
    start_time_unix_nano: int | str = 0
    end_time_unix_nano: int | str = 0
    attributes: list[_KeyValue] | None = None
    dropped_attributes_count: int = 0
    events: list[_Event] | None = None
    dropped_events_count: int = 0
    links: list[_Link] | None = None
    dropped_links_count: int = 0
    status: _Status | None = None


class _ScopeSpans(_Camel, frozen=True):
    scope: _Scope | None = None
    spans: list[_Span] | None = None


class _ResourceSpans(_Camel, frozen=True):
    resource: _Resource | None = None
    scope_spans: list[_ScopeSpans] | None = None


class _TraceRequest(_Camel, frozen=True):
    resource_spans: list[_ResourceSpans] | None = None


class _LogRecord(_Camel, frozen=True):
    time_unix_nano: int | str = 0
    observed_time_unix_nano: int | str = 0
    severity_number: int = 0
    severity_text: str = ""
    body: _AnyValue | None = None
    attributes: list[_KeyValue] | None = None
    trace_id: str | None = ""
    span_id: str | None = ""


class _ScopeLogs(_Camel, frozen=True):
    scope: _Scope | None = None
    log_records: list[_LogRecord] | None = None


class _ResourceLogs(_Camel, frozen=True):
    resource: _Resource | None = None
    scope_logs: list[_ScopeLogs] | None = None


class _LogsRequest(_Camel, frozen=True):
    resource_logs: list[_ResourceLogs] | None = None


_json_traces = msgspec.json.Decoder(_TraceRequest)
_json_logs = msgspec.json.Decoder(_LogsRequest)


def spans_from_json(data: bytes) -> list[Span]:
    """The spans of an ExportTraceServiceRequest in JSON.

    :raises BadRequest: anything in it is malformed.
    """
    request = _decode(lambda: _json_traces.decode(data))
    return list(_spans(request, _json_id, _json_value))


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
    request = _decode(lambda: ExportTraceServiceRequest.FromString(data))
    return list(_spans(request, _protobuf_id, _protobuf_value))


def logs_from_json(data: bytes) -> list[LogRecord]:
    """Those log records of an ExportLogsServiceRequest in JSON that belong to a trace.

    :raises BadRequest: anything in it is malformed.
    """
    request = _decode(lambda: _json_logs.decode(data))
    return list(_logs(request, _json_id, _json_value))


def logs_from_protobuf(data: bytes) -> list[LogRecord]:
    """Those log records of an ExportLogsServiceRequest in protobuf that belong to a trace.

    :raises BadRequest: anything in it is malformed.
    :raises ProtobufMissing: opentelemetry-proto is not installed.
    """
    try:
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
    except ImportError:
        raise ProtobufMissing from None
    request = _decode(lambda: ExportLogsServiceRequest.FromString(data))
    return list(_logs(request, _protobuf_id, _protobuf_value))


def _decode(decode: Callable[[], Any]) -> Any:
    try:
        return decode()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadRequest(f"malformed request: {error}") from None
    except Exception as error:
        # protobuf's DecodeError derives from Exception alone, and may not be installed.
        if type(error).__name__ != "DecodeError":
            raise
        raise BadRequest(f"malformed request: {error}") from None


_ReadId = Callable[[Any, int], str]
_ReadValue = Callable[[Any, int], Value]


def _spans(request: Any, read_id: _ReadId, read: _ReadValue) -> Iterator[Span]:
    for resource_spans in request.resource_spans or ():
        resource, service = _resource(resource_spans.resource, read)
        for scope_spans in resource_spans.scope_spans or ():
            scope = _scope(scope_spans.scope)
            for span in scope_spans.spans or ():
                yield _span(span, resource, service, scope, read_id, read)


def _span(  # noqa: PLR0913, PLR0917 - what all spans of one resource and scope share is passed on
    span: Any,
    resource: Attributes,
    service: str,
    scope: str,
    read_id: _ReadId,
    read: _ReadValue,
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
        start=_nanos(span.start_time_unix_nano),
        end=_nanos(span.end_time_unix_nano),
        status=status.code if status is not None and 0 <= status.code <= 2 else 0,
        status_message=status.message if status is not None else "",
        service=service,
        scope=scope,
        trace_state=span.trace_state,
        resource=resource,
        attributes=_attributes(span.attributes, read),
        # Most spans have none: an empty list for each would be looked at by the garbage collector.
        events=[
            Event(e.name, _nanos(e.time_unix_nano), _attributes(e.attributes, read))
            for e in span.events or ()
        ]
        or (),
        links=[
            Link(read_id(x.trace_id, 16), read_id(x.span_id, 8), _attributes(x.attributes, read))
            for x in span.links or ()
        ]
        or (),
        dropped=span.dropped_attributes_count
        + span.dropped_events_count
        + span.dropped_links_count,
    )


def _logs(request: Any, read_id: _ReadId, read: _ReadValue) -> Iterator[LogRecord]:
    for resource_logs in request.resource_logs or ():
        _, service = _resource(resource_logs.resource, read)
        for scope_logs in resource_logs.scope_logs or ():
            scope = _scope(scope_logs.scope)
            for record in scope_logs.log_records or ():
                trace_id = read_id(record.trace_id, 16)
                log = LogRecord(
                    trace_id=trace_id,
                    span_id=read_id(record.span_id, 8) or None,
                    time=_nanos(record.time_unix_nano) or _nanos(record.observed_time_unix_nano),
                    severity=record.severity_text,
                    severity_number=record.severity_number,
                    body=read(record.body, 0),
                    service=service,
                    scope=scope,
                    attributes=_attributes(record.attributes, read),
                )
                if trace_id:
                    yield log


def _resource(resource: Any, read: _ReadValue) -> tuple[Attributes, str]:
    attributes = _attributes(resource.attributes, read) if resource is not None else {}
    return attributes, str(attributes.get("service.name") or _UNKNOWN_SERVICE)


def _scope(scope: Any) -> str:
    if scope is None:
        return ""
    return f"{scope.name} {scope.version}".strip()


def _attributes(pairs: Iterable[Any] | None, read: _ReadValue) -> dict[str, Value]:
    return {pair.key: read(pair.value, 0) for pair in pairs or ()}


def _nanos(value: int | str) -> int:
    if isinstance(value, str):
        value = _integer(value)
    if not 0 <= value <= _MAX_NANOS:
        raise BadRequest("a time outside of 64 bits")
    return value


def _integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"no integer: {text[:40]!r}") from None


def _json_id(text: str | None, size: int) -> str:
    if not text:
        return ""
    lowered = text.lower()
    try:
        raw = bytes.fromhex(lowered)
    except ValueError:
        raw = b""
    if len(raw) != size or len(lowered) != 2 * size:
        raise BadRequest(f"an id that is not {2 * size} hex digits: {text[:40]!r}")
    return lowered if any(raw) else ""


def _protobuf_id(raw: bytes, size: int) -> str:
    if not raw:
        return ""
    if len(raw) != size:
        raise BadRequest(f"an id of {len(raw)} bytes instead of {size}")
    return raw.hex() if any(raw) else ""


def _protobuf_value(value: Any, depth: int) -> Value:
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if depth > _MAX_DEPTH:
        return "…"
    if kind == "array_value":
        return [_protobuf_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        return {pair.key: _protobuf_value(pair.value, depth + 1) for pair in pairs}
    read: Value = getattr(value, kind)
    return read


def _json_value(  # noqa: C901, PLR0911 - one branch per kind of value
    value: _AnyValue | None, depth: int
) -> Value:
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = value.int_value
        return _integer(number) if isinstance(number, str) else number
    if value.double_value is not None:
        return _double(value.double_value)
    if value.bytes_value is not None:
        try:
            return base64.b64decode(value.bytes_value, validate=True)
        except ValueError:
            raise BadRequest("bytesValue is not base64") from None
    if depth > _MAX_DEPTH:
        return "…"
    if value.array_value is not None:
        return [_json_value(item, depth + 1) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        pairs = value.kvlist_value.values or ()
        return {pair.key: _json_value(pair.value, depth + 1) for pair in pairs}
    return None


def _double(value: float | str) -> float:
    try:
        return float(value)
    except ValueError:
        raise BadRequest(f"no number: {str(value)[:40]!r}") from None
