"""Spans as OTLP JSON (OTLP 1.x, "JSON Protobuf Encoding"), as `otlp` reads it."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from .model import Attributes, Span


def to_json(spans: Sequence[Span]) -> str:
    """The spans as an ExportTraceServiceRequest in JSON, which any OTLP receiver takes."""
    resources: dict[int, tuple[Attributes, dict[str, list[Span]]]] = {}
    for span in spans:
        _, scopes = resources.setdefault(id(span.resource), (span.resource, {}))
        scopes.setdefault(span.scope, []).append(span)
    request = {
        "resourceSpans": [
            {
                "resource": {"attributes": _pairs(resource)},
                "scopeSpans": [
                    {"scope": {"name": scope}, "spans": [_span_json(span) for span in members]}
                    for scope, members in scopes.items()
                ],
            }
            for resource, scopes in resources.values()
        ]
    }
    # Half a surrogate pair is no text that others would take.
    text = json.dumps(request, ensure_ascii=False).encode(errors="replace")
    # What json itself indents, it writes several times slower.
    return msgspec.json.format(text, indent=2).decode()


def _span_json(span: Span) -> dict[str, Any]:
    found: dict[str, Any] = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "parentSpanId": span.parent_id or "",
        "traceState": span.trace_state,
        "name": span.name,
        "kind": span.kind,
        "startTimeUnixNano": str(span.start),
        "endTimeUnixNano": str(span.end),
        "attributes": _pairs(span.attributes),
        "events": [
            {"timeUnixNano": str(e.time), "name": e.name, "attributes": _pairs(e.attributes)}
            for e in span.events
        ],
        "links": [
            {"traceId": x.trace_id, "spanId": x.span_id, "attributes": _pairs(x.attributes)}
            for x in span.links
        ],
        "status": {"code": span.status, "message": span.status_message},
    }
    return {key: value for key, value in found.items() if value not in ("", [])}


def _pairs(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": _any(value)} for key, value in attributes.items()]


def _any(value: Any) -> dict[str, Any]:  # noqa: PLR0911 - one per kind
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value if math.isfinite(value) else _unreal(value)}
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, Mapping):
        return {"kvlistValue": {"values": _pairs(value)}}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    return {} if value is None else {"stringValue": str(value)}


def _unreal(value: float) -> str:
    """NaN and the infinities by their names in protobuf's JSON."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"
