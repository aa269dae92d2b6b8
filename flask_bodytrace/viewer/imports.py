"""Files of traces: OTLP JSON, also one request a line, Jaeger's JSON and Zipkin's (v2).

Which of them it is shows in the first names. All or nothing: anything malformed raises
`otlp.BadRequest`, which says what and where.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from .model import Event, Link, Span, Value
from .otlp import BadRequest, spans_from_json

_KINDS = {"internal": 1, "server": 2, "client": 3, "producer": 4, "consumer": 5}
_ID = re.compile(r"[0-9a-fA-F]{1,32}")


def spans_from_file(data: bytes) -> list[Span]:
    """The spans of a file.

    :raises BadRequest: it is of no kind that is known, or malformed.
    """
    start = data[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if start.startswith(b"["):
        return _zipkin(_decode(_zipkin_file, data))
    if not start.startswith(b"{"):
        raise BadRequest("no JSON: a file of OTLP, Jaeger or Zipkin JSON begins with { or [")
    if b'"resourceSpans"' in data[:65536]:
        return _otlp_lines(data)
    if b'"data"' in data[:65536] or b'"processes"' in data:
        return _jaeger(_decode(_jaeger_file, data))
    raise BadRequest(
        'neither "resourceSpans" (OTLP) nor "data" (Jaeger) is in it, and it is no list (Zipkin)'
    )


def _otlp_lines(data: bytes) -> list[Span]:
    try:
        return spans_from_json(data)
    except BadRequest:
        # The collector's file exporter writes a request a line.
        lines = [line for line in data.splitlines() if line.strip()]
        if len(lines) < 2 or not all(line.lstrip().startswith(b"{") for line in lines[:2]):
            raise
    found: list[Span] = []
    for number, line in enumerate(lines, 1):
        try:
            found += spans_from_json(line)
        except BadRequest as error:
            raise BadRequest(f"line {number}: {error}") from None
    return found


def _decode(decoder: msgspec.json.Decoder[Any], data: bytes) -> Any:
    try:
        return decoder.decode(data.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadRequest(str(error)) from None


def _hex(text: str, size: int, what: str) -> str:
    """An id in full; Jaeger and Zipkin leave zeros in front out."""
    if not _ID.fullmatch(text) or len(text.lstrip("0")) > 2 * size or not text.strip("0"):
        raise BadRequest(f"{what} that is no id of up to {2 * size} hex digits: {text[:40]!r}")
    return text.lower().rjust(2 * size, "0")[-2 * size :]


def _nanos(micros: int, what: str) -> int:
    """A time in ns; OTLP has 64 bits for one, and no time before 1970."""
    if not 0 <= micros * 1000 < 1 << 64:
        raise BadRequest(f"{what} that is no time in µs since 1970: {str(micros)[:40]}")
    return micros * 1000


class _Pair(Struct):
    key: str
    value: Any = None


class _Reference(Struct, rename={"kind": "refType", "trace_id": "traceID", "span_id": "spanID"}):
    kind: str = "CHILD_OF"
    trace_id: str = ""
    span_id: str = ""


class _JaegerLog(Struct):
    timestamp: int = 0
    fields: list[_Pair] = field(default_factory=list)


class _JaegerSpan(
    Struct,
    rename={
        "trace_id": "traceID",
        "span_id": "spanID",
        "parent_id": "parentSpanID",
        "name": "operationName",
        "start": "startTime",
        "process_id": "processID",
    },
):
    trace_id: str
    span_id: str
    name: str = ""
    start: int = 0
    duration: int = 0
    parent_id: str = ""
    references: list[_Reference] | None = None
    tags: list[_Pair] | None = None
    logs: list[_JaegerLog] | None = None
    process_id: str = ""


class _Process(Struct, rename={"service": "serviceName"}):
    service: str = "unknown_service"
    tags: list[_Pair] | None = None


class _JaegerTrace(Struct):
    spans: list[_JaegerSpan]
    processes: dict[str, _Process] = field(default_factory=dict)


class _JaegerFile(Struct):
    data: list[_JaegerTrace] | None = None
    spans: list[_JaegerSpan] | None = None
    processes: dict[str, _Process] | None = None


_jaeger_file = msgspec.json.Decoder(_JaegerFile)


def _jaeger(file: _JaegerFile) -> list[Span]:
    traces = file.data or []
    if file.spans:
        traces = [*traces, _JaegerTrace(file.spans, file.processes or {})]
    found = []
    for trace in traces:
        resources = {
            name: {"service.name": process.service, **_values(process.tags)}
            for name, process in trace.processes.items()
        }
        found += [_jaeger_span(span, resources.get(span.process_id, {})) for span in trace.spans]
    return found


def _jaeger_span(span: _JaegerSpan, resource: Mapping[str, Value]) -> Span:
    trace_id = _hex(span.trace_id, 16, "a traceID")
    tags = _values(span.tags)
    kind = str(tags.pop("span.kind", "internal")).lower()
    failed = tags.get("error") in (True, "true") or tags.get("otel.status_code") == "ERROR"
    parent, links = span.parent_id, []
    for reference in span.references or ():
        same = _hex(reference.trace_id, 16, "a reference's traceID") == trace_id
        if reference.kind == "CHILD_OF" and same and not parent:
            parent = reference.span_id
        else:
            links.append(
                Link(
                    _hex(reference.trace_id, 16, "a reference's traceID"),
                    _hex(reference.span_id, 8, "a reference's spanID"),
                    {},
                )
            )
    events = []
    for log in span.logs or ():
        fields = _values(log.fields)
        name = str(fields.pop("event", None) or fields.pop("message", "log"))
        events.append(Event(name, _nanos(log.timestamp, "a log's timestamp"), fields))
    return Span(
        trace_id=trace_id,
        span_id=_hex(span.span_id, 8, "a spanID"),
        parent_id=_hex(parent, 8, "a parent's spanID") if parent else None,
        name=span.name,
        kind=_KINDS.get(kind, 1),
        start=_nanos(span.start, "a startTime"),
        end=_nanos(span.start + span.duration, "a startTime and duration"),
        status=2 if failed else 0,
        status_message=str(tags.pop("otel.status_description", "")),
        service=str(resource.get("service.name", "unknown_service")),
        scope=str(tags.pop("otel.scope.name", tags.pop("otel.library.name", ""))),
        trace_state="",
        resource=resource,
        attributes=tags,
        events=events,
        links=links,
    )


def _values(pairs: Sequence[_Pair] | None) -> dict[str, Value]:
    return {pair.key: pair.value for pair in pairs or ()}


class _Endpoint(Struct, rename="camel"):
    service_name: str = ""
    ipv4: str = ""
    ipv6: str = ""
    port: int = 0


class _Annotation(Struct):
    timestamp: int = 0
    value: str = ""


class _ZipkinSpan(Struct, rename="camel"):
    trace_id: str
    id: str
    parent_id: str | None = None
    name: str | None = None
    kind: str | None = None
    timestamp: int = 0
    duration: int = 0
    shared: bool = False
    local_endpoint: _Endpoint | None = None
    remote_endpoint: _Endpoint | None = None
    tags: dict[str, str] | None = None
    annotations: list[_Annotation] | None = None


_zipkin_file = msgspec.json.Decoder(list[Any])


def _zipkin(file: list[Any]) -> list[Span]:
    spans: list[Any] = []
    for item in file:
        spans += item if isinstance(item, list) else [item]
    try:
        read = msgspec.convert(spans, list[_ZipkinSpan])
    except msgspec.ValidationError as error:
        raise BadRequest(str(error)) from None
    asked = {(span.trace_id, span.id) for span in read if not span.shared}
    resources: dict[str, dict[str, Value]] = {}
    return [_zipkin_span(span, asked, resources) for span in read]


def _zipkin_span(
    span: _ZipkinSpan,
    asked: set[tuple[str, str]],
    resources: dict[str, dict[str, Value]],
) -> Span:
    service = (span.local_endpoint.service_name if span.local_endpoint else "") or "unknown_service"
    span_id = _hex(span.id, 8, "an id")
    parent = _hex(span.parent_id, 8, "a parentId") if span.parent_id else None
    if span.shared and (span.trace_id, span.id) in asked:
        # Zipkin's servers may share their client's id: here each span has its own.
        parent, span_id = span_id, hashlib.sha256(f"{span_id} shared".encode()).hexdigest()[:16]
    attributes: dict[str, Value] = dict(span.tags or {})
    remote = span.remote_endpoint
    if remote is not None:
        address = remote.service_name or remote.ipv4 or remote.ipv6
        if address:
            attributes.setdefault("server.address", address)
        if remote.port:
            attributes.setdefault("server.port", remote.port)
    failed = "error" in attributes or attributes.get("otel.status_code") == "ERROR"
    return Span(
        trace_id=_hex(span.trace_id, 16, "a traceId"),
        span_id=span_id,
        parent_id=parent,
        name=span.name or "",
        kind=_KINDS.get((span.kind or "internal").lower(), 1),
        start=_nanos(span.timestamp, "a timestamp"),
        end=_nanos(span.timestamp + span.duration, "a timestamp and duration"),
        status=2 if failed else 0,
        status_message=str(attributes.get("error", "")) if failed else "",
        service=service,
        scope="",
        trace_state="",
        resource=resources.setdefault(service, {"service.name": service}),
        attributes=attributes,
        events=[
            Event(note.value, _nanos(note.timestamp, "an annotation's timestamp"), {})
            for note in span.annotations or ()
        ],
        links=[],
    )
