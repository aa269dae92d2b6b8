"""What ``g.trace`` is, and how to get it anywhere below the request."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, cast

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
"""Where the OpenTelemetry context and the environ keep the current trace."""


class RequestTrace:
    """One request's trace. Hex strings are made when asked for.

    It stays valid after the request; of its body only the size is known then.
    """

    __slots__ = ("__weakref__", "body", "context", "correlation_id", "parent_span_id", "span")

    body: CachedBody
    """The request body: `replayable`, `size`, `getvalue()`."""
    context: Context
    """The OpenTelemetry context the request is handled in; after it, only its baggage."""
    correlation_id: str | None
    """The caller's X-Trace-ID where that is no trace id."""
    parent_span_id: str | None
    """16 lower-case hex digits of the caller's span; None if the trace starts here."""
    span: Span
    """The server span; not recording if the request is not sampled."""

    @property
    def trace_id(self) -> str:
        """32 lower-case hex digits."""
        return format_trace_id(self.span.get_span_context().trace_id)

    @property
    def span_id(self) -> str:
        """16 lower-case hex digits."""
        return format_span_id(self.span.get_span_context().span_id)

    @property
    def sampled(self) -> bool:
        """Whether the trace is recorded (W3C flag bit 0)."""
        return self.span.get_span_context().trace_flags.sampled

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids of this request by attribute name; read-only."""
        raise NotImplementedError

    def set_id(self, name: str, value: object) -> bool:
        """Add a business id that is known only now, such as the user's after authentication.

        It is on the span and in `ids`, and from now on on log records and, with
        ``BODYTRACE_BAGGAGE``, in what outbound calls send. It replaces an id of this name.
        ``BODYTRACE_ID_HASH`` holds for it.

        :param name: the attribute's, such as ``user.id``.
        :param value: text, a number or a UUID; longer text is cut to 256 characters.
        :returns: whether the value can be an id: printable and not empty.
        :raises ConfigError: `name` has other characters than letters, digits, ``_``, ``-``, ``.``.
        """
        raise NotImplementedError

    def headers(self) -> dict[str, str]:
        """Headers for an outbound call by hand, through the configured propagators.

        The current span is named as parent if it belongs to this trace, else the server span.
        """
        current = get_current_span().get_span_context()
        same = current.trace_id == self.span.get_span_context().trace_id
        carrier: dict[str, str] = {}
        context = None if same else set_span_in_context(self.span, self.context)
        propagate.inject(carrier, context)
        return carrier

    def __repr__(self) -> str:
        return f"<RequestTrace {self.trace_id} span {self.span_id}>"


answered: ContextVar[RequestTrace | None] = ContextVar("flask_bodytrace.answered", default=None)
"""The last request that was answered on this thread, for its server's access log."""


frameworks: list[Callable[[], RequestTrace | None]] = []
"""Functions that ask a web framework for its current request's trace, for `current_trace`."""


def current_trace() -> RequestTrace | None:
    """The trace of the request being handled in this context; None outside of one."""
    trace = cast("RequestTrace | None", otel_context.get_value(TRACE_KEY))
    if trace is None:
        # In a copy of the request's context, or with a context that keeps only what it knows, as
        # ddtrace's does (DD_TRACE_OTEL_ENABLED).
        for ask in frameworks:
            trace = trace or ask()
    return trace
