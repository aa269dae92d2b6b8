"""Incoming trace context, the X-Trace-ID propagator and the business-key id generator."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.instrumentation.wsgi import wsgi_getter
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.propagators.textmap import (
    TextMapPropagator,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

from .traceparent import _FLAGS, _NO_SPAN, _NO_TRACE, _TRACEPARENT_00, parse_traceparent
from .xtrace import (
    XTracePropagator,
    parse_correlation_id,
    parse_span_id,
    parse_trace_id,
    remote_parent,
)


def extract(environ: WSGIEnvironment) -> Context:
    """What the globally configured propagators (``OTEL_PROPAGATORS``) find in a request.

    W3C Trace Context is parsed by our own, strict parser in place of OpenTelemetry's; X-Trace-ID
    is left to `read`, configured or not.
    """
    textmap = propagate.get_global_textmap()
    context = Context()
    for propagator in textmap._propagators if type(textmap) is CompositePropagator else (textmap,):
        kind = type(propagator)
        if kind is TraceContextTextMapPropagator:
            traceparent = environ.get("HTTP_TRACEPARENT")
            if traceparent is not None:
                parent = parse_traceparent(traceparent, environ.get("HTTP_TRACESTATE", ""))
                if parent is not None:
                    context = set_span_in_context(NonRecordingSpan(parent), context)
        elif kind is W3CBaggagePropagator and "HTTP_BAGGAGE" not in environ:
            continue
        elif kind is not XTracePropagator:
            context = propagator.extract(environ, context, wsgi_getter)
    return context


# Not frozen: that would quadruple what making one costs every request.
@dataclass(slots=True)
class Caller:
    """What a request says about the trace it belongs to, none of it trusted yet.

    :param context: what else it says, such as baggage; the caller's span may be in it.
    :param parent: the caller's span, from one of the configured propagators.
    :param trace_id: the one X-Trace-ID names; 0 if none, or if there is a parent.
    :param span_id: the X-Span-ID next to it, 0 if there is none.
    """

    context: Context
    parent: SpanContext | None
    trace_id: int
    span_id: int
    correlation_id: str | None

    def named_parent(self) -> SpanContext | None:
        """The parent X-Trace-ID and X-Span-ID give; its span is made up without the latter."""
        return remote_parent(self.trace_id, self.span_id) if self.trace_id else None


def skim(environ: WSGIEnvironment) -> tuple[str, str, int] | tuple[()] | None:
    """Trace id, span id and flags of a caller that sends a traceparent and nothing else.

    Empty if it sends nothing at all, None to have all `read`. Nearly all callers are of these two
    kinds, and it takes a third of the steps; the ids stay lower-case hex.
    """
    if (
        "HTTP_TRACESTATE" in environ
        or "HTTP_X_TRACE_ID" in environ
        or "HTTP_BAGGAGE" in environ
        or not _is_standard(propagate.get_global_textmap())
    ):
        return None
    traceparent = environ.get("HTTP_TRACEPARENT")
    if traceparent is None:
        return ()
    match = _TRACEPARENT_00.fullmatch(traceparent)
    if match is None:
        return None
    trace_id, span_id, flags = match.groups()
    if trace_id == _NO_TRACE or span_id == _NO_SPAN:
        return None
    return trace_id, span_id, _FLAGS[flags]


def read(environ: WSGIEnvironment) -> Caller:
    """What the configured propagators, and X-Trace-ID besides, find in a request.

    A parent found by a propagator wins over X-Trace-ID.
    """
    parent: SpanContext | None
    textmap = propagate.get_global_textmap()
    if "HTTP_BAGGAGE" not in environ and _is_standard(textmap):
        context = _NOTHING
        traceparent = environ.get("HTTP_TRACEPARENT")
        parent = None
        if traceparent is not None:
            parent = parse_traceparent(traceparent, environ.get("HTTP_TRACESTATE", ""))
    else:
        context = extract(environ)
        parent = get_current_span(context).get_span_context()
        if parent is None or not parent.is_valid:
            parent = None
    correlation = None
    trace_id = 0
    named = environ.get("HTTP_X_TRACE_ID")
    if named:
        trace_id = parse_trace_id(named) or 0
        if not trace_id:
            correlation = parse_correlation_id(named)
        elif parent is not None:
            trace_id = 0
    span_id = parse_span_id(environ.get("HTTP_X_SPAN_ID", "")) if trace_id else 0
    return Caller(context, parent, trace_id, span_id, correlation)


_NOTHING = Context()


@lru_cache(maxsize=8)
def _is_standard(textmap: TextMapPropagator) -> bool:
    """Whether this is OpenTelemetry's default, W3C Trace Context and Baggage; or one of them."""
    if type(textmap) is not CompositePropagator:
        return False
    kinds = {type(propagator) for propagator in textmap._propagators}
    return TraceContextTextMapPropagator in kinds and kinds <= {
        TraceContextTextMapPropagator,
        W3CBaggagePropagator,
    }
