"""Trace and ids on log records: ``otelTraceID``, ``otelSpanID`` and so on, as OpenTelemetry says.

Three ways, all with the same fields. `install` is what ``BODYTRACE_LOGS`` does, for records of any
logger and handler; `TraceLogFilter` goes on chosen handlers by hand; `add_trace_fields` is a
structlog processor.

`install` extends `logging.Logger.makeRecord`, which the standard library documents as a factory to
be overridden, and not the record factory: that one runs before a caller's ``extra`` is put on the
record, and `logging` raises KeyError for an ``extra`` that names what is there already. A filter on
a logger would not see the records of loggers below it, and one on the root's handlers not those of
handlers added later.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from functools import wraps
from typing import Any, Protocol, cast

from opentelemetry.trace import Span, format_span_id, format_trace_id, get_current_span

from .log_once import LogOnce
from .trace.current import answered, current_trace


class _LoggedRequest(Protocol):
    """The part of the current trace that log records use."""

    @property
    def logs(self) -> bool: ...

    @property
    def service_name(self) -> str: ...

    @property
    def known_ids(self) -> Mapping[str, str]: ...

    @property
    def correlation_id(self) -> str | None: ...

    @property
    def span(self) -> Span: ...


def fields() -> dict[str, Any]:
    """The fields for a log record made now; empty outside of a request.

    ``otelTraceID`` (32 hex digits) and ``otelSpanID`` (16) are those of the current span, be it the
    server span or one below; ``otelTraceSampled`` is a bool, ``otelServiceName`` the resource's
    ``service.name``. ``correlation_id`` is the caller's X-Trace-ID where that is no trace id. The
    business ids found so far come under their own names.
    """
    source = cast("_LoggedRequest | None", current_trace())
    return {} if source is None else _fields(source)


_report = LogOnce("the trace is missing on log records: failed at '%s'")


def _fields(source: _LoggedRequest) -> dict[str, Any]:
    try:
        return _read_fields(source)
    except Exception:  # noqa: BLE001 - spans may be anything, and logging raises nothing
        _report("fields")
        return {}


def _read_fields(source: _LoggedRequest) -> dict[str, Any]:
    values: dict[str, Any] = {}
    span_context = get_current_span().get_span_context()
    if not span_context.is_valid:
        span_context = source.span.get_span_context()
    if span_context.is_valid:
        values = {
            "otelTraceID": format_trace_id(span_context.trace_id),
            "otelSpanID": format_span_id(span_context.span_id),
            "otelTraceSampled": span_context.trace_flags.sampled,
            "otelServiceName": source.service_name,
        }
    if source.correlation_id is not None:
        values["correlation_id"] = source.correlation_id
    return {**values, **source.known_ids}


class TraceLogFilter(logging.Filter):
    """Puts `fields` on the records of the handler (or logger) it is added to; keeps them all.

    What a record has already, from its ``extra`` or otherwise, stays.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the fields; True."""
        _put(record, fields())
        return True


def add_trace_fields(
    _logger: Any, _method: str, event_dict: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """A structlog processor that adds `fields`; what the event has already stays."""
    for name, value in fields().items():
        event_dict.setdefault(name, value)
    return event_dict


def _put(record: logging.LogRecord, values: Mapping[str, Any]) -> None:
    known = record.__dict__
    for name, value in values.items():
        known.setdefault(name, value)


def install() -> None:
    """Put `fields` on every record made in requests of applications with ``BODYTRACE_LOGS``.

    Once per process, however many applications ask, and whatever else extends
    `logging.Logger.makeRecord` before or after. `uninstall` undoes it.
    """
    previous = logging.Logger.makeRecord
    if hasattr(previous, _MARK):
        return

    @wraps(previous)
    def make_record(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
        record = previous(self, *args, **kwargs)
        source = cast("_LoggedRequest | None", current_trace())
        if source is None and record.name in _ACCESS_LOGS:
            source = cast("_LoggedRequest | None", answered.get())
            # Used once: the next record may be about a request that never reached the application.
            answered.set(None)
        if source is not None and source.logs:
            _put(record, _fields(source))
        return record

    # wraps() carries it on to an extension around this one.
    setattr(make_record, _MARK, (make_record, previous))
    logging.Logger.makeRecord = make_record  # type: ignore[method-assign]


def uninstall() -> None:
    """Undo `install`, unless something else extended `logging.Logger.makeRecord` after it."""
    current = logging.Logger.makeRecord
    ours, previous = getattr(current, _MARK, (None, None))
    if current is ours:
        logging.Logger.makeRecord = previous  # type: ignore[method-assign,assignment]


_MARK = "_bodytrace_extension"
_ACCESS_LOGS = frozenset({"gunicorn.access", "werkzeug"})
"""Servers' loggers, written to once a request was answered and its context is gone."""
