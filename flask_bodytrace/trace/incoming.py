"""What a request says about the trace it belongs to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.instrumentation.wsgi import wsgi_getter
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flask_bodytrace.otel.context import NOTHING
from flask_bodytrace.otel.propagators import parts_of

from .traceparent import NO_SPAN, NO_TRACE, TRACEPARENT_00, parse_traceparent
from .xtrace import XTracePropagator, parse_correlation_id, parse_span_id, parse_trace_id

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_FLAGS = {f"{flags:02x}": flags for flags in range(256)}


# Not frozen: making a frozen dataclass takes several times as long.
@dataclass(slots=True)
class Caller:
    """What a request says about the trace it belongs to, none of it trusted yet.

    :param context: what else it says, such as baggage; the caller's span may be in it.
    :param parent: the caller's span, from one of the configured propagators.
    :param trace_id: the one X-Trace-ID names; 0 if none, or if there is a parent.
    :param span_id: the X-Span-ID next to it, 0 if there is none.
    :param correlation_id: X-Trace-ID where it is no trace id.
    """

    context: Context
    parent: SpanContext | None
    trace_id: int
    span_id: int
    correlation_id: str | None


def only_traceparent(environ: WSGIEnvironment) -> tuple[str, str, int] | tuple[()] | None:
    """Trace id, span id and flags of a caller that sends a traceparent and nothing else.

    Nearly all callers do, or send nothing at all: then it is empty. None if there is more, which
    `read_caller` has to look at. The ids stay lower-case hex.
    """
    textmap = propagate.get_global_textmap()
    seen, is_w3c = _last_seen
    if (
        "HTTP_TRACESTATE" in environ
        or "HTTP_X_TRACE_ID" in environ
        or "HTTP_BAGGAGE" in environ
        or not (is_w3c if textmap is seen else _is_w3c(textmap))
    ):
        return None
    traceparent = environ.get("HTTP_TRACEPARENT")
    if traceparent is None:
        return ()
    match = TRACEPARENT_00.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if trace_id == NO_TRACE or span_id == NO_SPAN:
        return None
    return trace_id, span_id, _FLAGS[flags]


def read_caller(environ: WSGIEnvironment, report: Callable[[str], None]) -> Caller:
    """What the configured propagators, and X-Trace-ID besides, find in a request.

    A parent found by a propagator wins over X-Trace-ID.

    :param report: logs the exception of a propagator that fails; the others are asked all the same.
    """
    textmap = propagate.get_global_textmap()
    if "HTTP_BAGGAGE" not in environ and _is_w3c(textmap):
        context = NOTHING
        parent = _w3c_parent(environ)
    else:
        context = _extract(textmap, environ, report)
        found = get_current_span(context).get_span_context()
        parent = found if found is not None and found.is_valid else None
    correlation_id = None
    trace_id = 0
    named = environ.get("HTTP_X_TRACE_ID")
    if named:
        trace_id = parse_trace_id(named) or 0
        if not trace_id:
            correlation_id = parse_correlation_id(named)
        elif parent is not None:
            trace_id = 0
    span_id = parse_span_id(environ.get("HTTP_X_SPAN_ID", "")) if trace_id else 0
    return Caller(context, parent, trace_id, span_id, correlation_id)


def _extract(
    textmap: TextMapPropagator, environ: WSGIEnvironment, report: Callable[[str], None]
) -> Context:
    """What the globally configured propagators (``OTEL_PROPAGATORS``) find in a request.

    W3C Trace Context is parsed by our own, strict parser in place of OpenTelemetry's. X-Trace-ID
    is left to `read_caller`, configured or not.
    """
    context = Context()
    for propagator in parts_of(textmap) or (textmap,):
        kind = type(propagator)
        if kind is TraceContextTextMapPropagator:
            parent = _w3c_parent(environ)
            if parent is not None:
                context = set_span_in_context(NonRecordingSpan(parent), context)
        elif kind is W3CBaggagePropagator and "HTTP_BAGGAGE" not in environ:
            continue
        elif kind is not XTracePropagator:
            try:
                context = propagator.extract(environ, context, wsgi_getter)
            except Exception:  # noqa: BLE001 - a client could switch tracing off by what it sends
                report(f"extract, {kind.__name__}")
    return context


def _w3c_parent(environ: WSGIEnvironment) -> SpanContext | None:
    traceparent = environ.get("HTTP_TRACEPARENT")
    if traceparent is None:
        return None
    return parse_traceparent(traceparent, environ.get("HTTP_TRACESTATE", ""))


_last_seen: tuple[TextMapPropagator | None, bool] = (None, False)


def _is_w3c(textmap: TextMapPropagator) -> bool:
    """Whether this is W3C Trace Context, with Baggage or without: OpenTelemetry's default is."""
    global _last_seen  # noqa: PLW0603 - there is one global propagator, and it hardly ever changes
    kinds = set(map(type, parts_of(textmap) or ()))
    is_w3c = TraceContextTextMapPropagator in kinds and kinds <= {
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    }
    _last_seen = (textmap, is_w3c)
    return is_w3c
