"""What ``g.trace`` is, and how to get it anywhere below the request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol, cast

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.trace import (
    Span,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from flask_bodytrace.body.cached import CachedBody


TRACE_KEY = "flask_bodytrace.trace"
"""Where the OpenTelemetry context keeps what knows the current trace."""


class TraceSource(Protocol):
    """What a `RequestTrace` asks; one request's `Exchange` is one."""

    body: CachedBody
    span: Span
    parent_span_id: str | None
    correlation_id: str | None
    context: Context

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids by attribute name."""
        ...

    @property
    def trace(self) -> RequestTrace:
        """This, for users."""
        ...


class RequestTrace:
    """One request's trace. Hex strings are made when asked for."""

    __slots__ = ("_source",)

    def __init__(self, source: TraceSource) -> None:
        self._source = source

    @property
    def span(self) -> Span:
        """The server span; not recording if the request is not sampled."""
        return self._source.span

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits."""
        return format_trace_id(self.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits."""
        return format_span_id(self.span.get_span_context().span_id)

    @property
    def parent_span_id(self) -> str | None:
        """16 lower-case hex digits of the caller's span; None if the trace starts here."""
        return self._source.parent_span_id

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded (W3C flag bit 0)."""
        return self.span.get_span_context().trace_flags.sampled

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids of this request by attribute name; read-only."""
        return self._source.ids

    @property
    def body(self) -> CachedBody:
        """The request body: `replayable`, `size`, `getvalue()`."""
        return self._source.body

    @property
    def correlation_id(self) -> str | None:
        """The caller's X-Trace-ID where that is no trace id."""
        return self._source.correlation_id

    def headers(self) -> dict[str, str]:
        """Headers for an outbound call by hand, through the configured propagators.

        The current span is named as parent if it belongs to this trace, else the server span.
        """
        current = get_current_span().get_span_context()
        same = current.trace_id == self.span.get_span_context().trace_id
        carrier: dict[str, str] = {}
        # Of the context, only the baggage outlives the request.
        context = None if same else set_span_in_context(self.span, self._source.context)
        propagate.inject(carrier, context)
        return carrier

    def __repr__(self) -> str:
        return f"<RequestTrace {self.trace_id} span {self.span_id}>"


def current_trace() -> RequestTrace | None:
    """The trace of the request being handled in this context; None outside of one."""
    source = cast("TraceSource | None", otel_context.get_value(TRACE_KEY))
    return None if source is None else source.trace
