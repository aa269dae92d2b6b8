"""Spans and log records of this process into the store, without an exporter between."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any
from weakref import WeakSet

import msgspec
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id, get_current_span

from .model import Attributes, Event, Link, LogRecord, Span, Value
from .notes import notes
from .sql_notes import spans_of
from .store import TraceStore
from .template_notes import events_of

# OpenTelemetry's severity numbers (logs data model, "Severity Fields").
_SEVERITIES = ((50, 21), (40, 17), (30, 13), (20, 9), (10, 5))


class StoreProcessor(SpanProcessor):
    """Puts finished spans into a `TraceStore`."""

    def __init__(self, store: TraceStore) -> None:
        self._store = store
        self._resource: Resource | None = None
        self._resource_attributes: Attributes = {}

    def on_end(self, span: ReadableSpan) -> None:
        """Keep `span`, if it is sampled."""
        context: Any = span.get_span_context()
        if context is not None and context.trace_flags.sampled:
            # One resource for all spans of a provider: kept once.
            if span.resource is not self._resource:
                self._resource_attributes = _plain(span.resource.attributes)
                self._resource = span.resource
            self._store.add(self._shown(span, context))

    def _shown(self, span: ReadableSpan, context: Any) -> list[Span]:
        """The span, and what was noted of it."""
        parent = span.parent
        if span.kind is SpanKind.CLIENT and parent is not None and _is_database(span):
            notes.cover(context.trace_id, parent.span_id, span.start_time or 0)
        converted = _convert(span, context, self._resource_attributes)
        note = notes.take(context.trace_id, context.span_id)
        if note is None:
            return [converted]
        events = sorted([*converted.events, *events_of(note)], key=lambda event: event.time)
        dropped = converted.dropped + note.left_out
        converted = msgspec.structs.replace(converted, events=events, dropped=dropped)
        return [converted, *spans_of(note, converted)]


def _is_database(span: ReadableSpan) -> bool:
    found = span.attributes or {}
    return "db.system.name" in found or "db.system" in found


def _convert(span: ReadableSpan, context: Any, resource: Attributes) -> Span:
    scope = span.instrumentation_scope
    return Span(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        parent_id=format_span_id(span.parent.span_id) if span.parent is not None else None,
        name=span.name,
        # The SDK's enumeration starts at internal, OTLP's at unspecified.
        kind=span.kind.value + 1,
        start=span.start_time or 0,
        end=span.end_time or 0,
        status=span.status.status_code.value,
        status_message=span.status.description or "",
        service=str(resource.get("service.name") or "unknown_service"),
        scope=f"{scope.name} {scope.version or ''}".strip() if scope is not None else "",
        trace_state=context.trace_state.to_header(),
        resource=resource,
        attributes=_plain(span.attributes),
        events=[Event(e.name, e.timestamp, _plain(e.attributes)) for e in span.events],
        links=[
            Link(
                format_trace_id(link.context.trace_id),
                format_span_id(link.context.span_id),
                _plain(link.attributes),
            )
            for link in span.links
        ],
        dropped=span.dropped_attributes + span.dropped_events + span.dropped_links,
    )


def _plain(attributes: Mapping[str, Any] | None) -> dict[str, Value]:
    return {name: _value(value) for name, value in (attributes or {}).items()}


def _value(value: Any) -> Value:
    if isinstance(value, str | bool | int | float | bytes) or value is None:
        return value
    if isinstance(value, Mapping):
        return {str(name): _value(one) for name, one in value.items()}
    if isinstance(value, Sequence):
        return [_value(one) for one in value]
    return str(value)


_log_stores: WeakSet[TraceStore] = WeakSet()
_lock = Lock()
_installed = False


def collect_logs(store: TraceStore) -> None:
    """Keep every log record that is made while a sampled span is current.

    Done where records are made, not by a handler: one on the root logger would make
    ``logging.basicConfig`` do nothing, and silence what Python prints where there is none.
    """
    global _installed  # noqa: PLW0603 - there is one factory in the process
    with _lock:
        _log_stores.add(store)
        if _installed:
            return
        _installed = True
        make = logging.getLogRecordFactory()

    def made(*arguments: Any, **keywords: Any) -> logging.LogRecord:
        record = make(*arguments, **keywords)
        span = get_current_span()
        context = span.get_span_context()
        if context.trace_flags.sampled and context.is_valid:
            # A caller's span, of another process, has no resource here.
            resource = getattr(span, "resource", None)
            service = resource.attributes.get("service.name") if resource is not None else None
            log = _log(record, context, str(service or ""))
            for one in list(_log_stores):
                one.add((), [log])
        return record

    logging.setLogRecordFactory(made)


def _log(record: logging.LogRecord, context: Any, service: str) -> LogRecord:
    try:
        body = record.getMessage()
    except Exception:  # noqa: BLE001 - arguments that do not fit; logging itself will say so
        body = str(record.msg)
    attributes: dict[str, Value] = {"code.file.path": record.pathname}
    attributes["code.line.number"] = record.lineno
    if record.exc_info and record.exc_info[1] is not None:
        error = record.exc_info[1]
        attributes["exception.type"] = type(error).__qualname__
        attributes["exception.message"] = str(error)
    return LogRecord(
        trace_id=format_trace_id(context.trace_id),
        span_id=format_span_id(context.span_id),
        time=int(record.created * 10**9),
        severity=record.levelname,
        severity_number=next(
            (number for level, number in _SEVERITIES if record.levelno >= level), 1
        ),
        body=body,
        service=service,
        scope=record.name,
        attributes=attributes,
    )
