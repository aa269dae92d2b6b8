"""Incoming trace context, the X-Trace-ID propagator and the business-key id generator."""

from __future__ import annotations

import re
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from opentelemetry import propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.context import Context
from opentelemetry.instrumentation.wsgi import wsgi_getter
from opentelemetry.propagators.composite import CompositePropagator
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
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from .ids import keyed_hash

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

_CORRELATION_KEY = "flask_bodytrace.correlation_id"
_MAX_CORRELATION_ID = 128
_HEX = re.compile(r"[0-9a-f]{32}")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SPAN_HEX = re.compile(r"[0-9a-f]{16}")
_CORRELATION_ID = re.compile(r"[!-~]+")
_TRACEPARENT_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_TRACEPARENT = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
_STATE_MEMBER = re.compile(
    r"([a-z0-9][_0-9a-z\-*/@]{0,255})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_FLAGS = {f"{flags:02x}": flags for flags in range(256)}
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_MAX_STATE_MEMBERS = 32
_MAX_STATE_LENGTH = 8192


class _State(TraceState):
    """What `parse_tracestate` let through: OpenTelemetry's constructor knows Level 1 keys only."""

    def __init__(self, members: dict[str, str]) -> None:
        super().__init__()
        self._dict = members


def parse_traceparent(traceparent: str, tracestate: str = "") -> SpanContext | None:
    """A W3C Trace Context pair (Level 1 and 2, 3.2 and 3.3); None unless it is valid throughout.

    An invalid tracestate is dropped as a whole and leaves the traceparent standing.
    """
    match = _TRACEPARENT_00.fullmatch(traceparent)
    if match is not None:
        trace_id, span_id, flags = match.groups()
    else:
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest):
            return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not (trace and span):
        return None
    state = parse_tracestate(tracestate) if tracestate else None
    return SpanContext(trace, span, True, TraceFlags(int(flags, 16)), state)


def parse_tracestate(text: str) -> TraceState | None:
    """A W3C tracestate list (Level 2, 3.3); of a doubled key the first member stays.

    None if any member is malformed, there are over 32, or they exceed 8192 characters.
    """
    if len(text) > _MAX_STATE_LENGTH:
        return None
    members: dict[str, str] = {}
    count = 0
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _STATE_MEMBER.fullmatch(member)
        count += 1
        if match is None or count > _MAX_STATE_MEMBERS:
            return None
        members.setdefault(match[1], match[2])
    return _State(members) if members else None


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


def correlation_id(context: Context) -> str | None:
    """The correlation id `XTracePropagator` left in `context`."""
    value = context.get(_CORRELATION_KEY)
    return value if isinstance(value, str) else None


class XTracePropagator(TextMapPropagator):
    """``X-Trace-ID``, in HTTP headers and gRPC metadata; ``xtrace`` in ``OTEL_PROPAGATORS``.

    32 hex digits or a UUID become the trace id; X-Span-ID, where it comes too, the parent. Anything
    else is kept as a correlation id. A context another propagator already found stays.
    """

    def extract(
        self,
        carrier: CarrierT,
        context: Context | None = None,
        getter: Getter[CarrierT] = default_getter,
    ) -> Context:
        """Add the remote span, or the correlation id, to `context`."""
        context = Context() if context is None else context
        values = getter.get(carrier, "x-trace-id")
        if not values:
            return context
        trace_id = parse_trace_id(values[0])
        if trace_id is None:
            correlation = parse_correlation_id(values[0])
            return Context({**context, _CORRELATION_KEY: correlation}) if correlation else context
        if get_current_span(context).get_span_context().is_valid:
            return context
        span_ids = getter.get(carrier, "x-span-id")
        parent = remote_parent(trace_id, parse_span_id(span_ids[0]) if span_ids else 0)
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


def remote_parent(trace_id: int, span_id: int) -> SpanContext:
    """A parent for a caller that named a trace; where it named no span (0), one is made up."""
    return SpanContext(
        trace_id,
        span_id or RandomIdGenerator().generate_span_id(),
        is_remote=True,
        trace_flags=TraceFlags(TraceFlags.SAMPLED),
    )


preset_trace_id: ContextVar[int] = ContextVar("flask_bodytrace.preset_trace_id", default=0)
"""The id the next root span gets from `BusinessIdGenerator`; 0 is a random one."""


class BusinessIdGenerator(RandomIdGenerator):
    """Random ids, but for traces whose id was chosen: from a business key or by X-Trace-ID.

    ``OTEL_PYTHON_ID_GENERATOR=bodytrace`` selects it. The W3C random flag is not claimed for
    chosen ids.
    """

    def generate_trace_id(self) -> int:
        """A 128-bit trace id."""
        return preset_trace_id.get() or super().generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Whether the id just generated has 56 random bits (W3C Trace Context Level 2)."""
        return not preset_trace_id.get()


def derive_trace_id(value: str, key: str = "") -> int:
    """The trace id of a business key: 128 bits of keyed BLAKE2b, never 0.

    :param value: the id as it appears in the request, such as ``ORD123456``.
    :param key: ``BODYTRACE_HASH_KEY``.
    """
    return int.from_bytes(keyed_hash(value, key.encode()), "big") or 1
