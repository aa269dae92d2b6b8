"""``X-Trace-ID`` and ``X-Span-ID``: their parsers, and their propagator."""

from __future__ import annotations

import re

from opentelemetry.context import Context
from opentelemetry.propagators.textmap import (
    CarrierT,
    Getter,
    Setter,
    TextMapPropagator,
    default_getter,
    default_setter,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    get_tracer_provider,
    set_span_in_context,
)

from flask_bodytrace.otel.sampling import samples_root

_MAX_CORRELATION_ID = 128
_HEX = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN_HEX = re.compile(r"[0-9a-f]{16}")
_CORRELATION_ID = re.compile(r"[!-~]+")


def parse_trace_id(text: str) -> int | None:
    """A trace id from 32 hex digits or a UUID; None for anything else."""
    lowered = text.strip().lower()
    if _HEX.fullmatch(lowered) or _UUID.fullmatch(lowered):
        return int(lowered.replace("-", ""), 16) or None
    return None


def parse_span_id(text: str) -> int:
    """A span id from 16 hex digits; 0 for anything else."""
    lowered = text.strip().lower()
    return int(lowered, 16) if _SPAN_HEX.fullmatch(lowered) else 0


def parse_correlation_id(text: str) -> str | None:
    """A caller's own id: visible ASCII, cut to 128 characters; None if it holds anything else."""
    text = text.strip()[:_MAX_CORRELATION_ID]
    return text if _CORRELATION_ID.fullmatch(text) else None


class XTracePropagator(TextMapPropagator):
    """``X-Trace-ID``, in HTTP headers and gRPC metadata; ``xtrace`` in ``OTEL_PROPAGATORS``.

    32 hex digits or a UUID become the trace id; X-Span-ID, where it comes too, the parent. Anything
    else is left alone: requests keep it as a correlation id. A parent that another propagator
    found stays. These headers do not say whether the trace is sampled, so the global provider's
    sampler decides, as for a trace that starts here.
    """

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Add the remote span to `context`."""
        context = Context() if context is None else context
        values = getter.get(carrier, "x-trace-id")
        if not values:
            return context
        trace_id = parse_trace_id(values[0])
        if trace_id is None:
            return context
        if get_current_span(context).get_span_context().is_valid:
            return context
        span_ids = getter.get(carrier, "x-span-id")
        span_id = parse_span_id(span_ids[0]) if span_ids else 0
        sampler = getattr(get_tracer_provider(), "sampler", None)
        sampled = samples_root(sampler, trace_id)
        parent = remote_parent(trace_id, span_id, sampled=sampled)
        return set_span_in_context(NonRecordingSpan(parent), context)

    def inject(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        setter: Setter[CarrierT] = default_setter,
    ) -> None:
        """Write the current span's ids; names in lower case, as gRPC demands."""
        span_context = get_current_span(context).get_span_context()
        if span_context.is_valid:
            setter.set(carrier, "x-trace-id", format_trace_id(span_context.trace_id))
            setter.set(carrier, "x-span-id", format_span_id(span_context.span_id))

    @property
    def fields(self) -> set[str]:
        """The names `inject` writes."""
        return {"x-trace-id", "x-span-id"}


def remote_parent(trace_id: int, span_id: int, *, sampled: bool) -> SpanContext:
    """A parent for a caller that named a trace; where it named no span (0), one is made up.

    :param sampled: what is to be decided below it; these headers do not say.
    """
    flags = TraceFlags.SAMPLED if sampled else TraceFlags.DEFAULT
    return SpanContext(
        trace_id,
        span_id or RandomIdGenerator().generate_span_id(),
        is_remote=True,
        trace_flags=TraceFlags(flags),
    )
