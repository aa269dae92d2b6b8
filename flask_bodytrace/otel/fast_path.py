"""Whether the fast path is right for a tracer: found out by trial, not by version.

`fast_path` makes one span through it and one through the SDK, on a copy of the tracer whose spans
go nowhere, does the same to both, and compares what a processor received, field by field. Any
difference, and any private name that is missing or has another shape, means that the SDK makes the
spans; `FastPath.reason` says why.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    Tracer,
)
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    NoOpTracer,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from .sampling import ALL, RANDOM, Prediction, predict

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from .fast_span import FastTracer

# Taken before anybody can have patched it: who patches it wants to see every span that is started.
_START_SPAN = Tracer.start_span


@dataclass(frozen=True, slots=True)
class FastPath:
    """The fast path of one tracer.

    :param tracer: whose spans these are.
    :param ids: its id generator.
    :param spans: starts its sampled server spans.
    :param prediction: which spans `sampler` will sample; a tracer's may be replaced.
    """

    tracer: Any
    ids: Any
    spans: FastTracer
    prediction: Prediction
    sampler: object

    def samples_below(self, trace_id: str, flags: int) -> bool | None:
        """Whether a span below a remote parent is sampled; None if the tracer has to be asked.

        :param trace_id: 32 lower-case hex digits.
        :param flags: the parent's, W3C trace flags.
        """
        tracer = self.tracer
        if tracer.sampler is not self.sampler or not tracer._tracer_config.is_enabled:
            return None
        bound = self.prediction.remote[flags & 1]
        if bound < 0:
            return None
        # Only those digits are parsed that decide.
        return bound > 0 and (bound == ALL or int(trace_id[16:], 16) < bound)

    def samples(self, parent: SpanContext | None, trace_id: int) -> bool | None:
        """Whether a span of this trace is sampled; None if the tracer has to be asked."""
        tracer = self.tracer
        if tracer.sampler is not self.sampler or not tracer._tracer_config.is_enabled:
            return None
        return self.prediction.samples(parent, trace_id)


def fast_path(tracer: object) -> tuple[FastPath | None, str]:
    """The fast path of `tracer`, or None and the reason why the SDK makes its spans."""
    reason = _unsuited(tracer)
    if reason is not None:
        return None, reason
    assert isinstance(tracer, Tracer)
    prediction = predict(tracer.sampler)
    if prediction is None:
        return None, f"the decisions of {type(tracer.sampler).__name__} are not predictable"
    try:
        from .fast_span import FastTracer

        difference = _difference(tracer)
    except Exception as error:  # noqa: BLE001 - another SDK than this was written for
        return None, f"not written for this SDK ({type(error).__name__}: {error})"
    if difference:
        return None, f"not written for this SDK ({difference} differs)"
    made = FastTracer(tracer)
    return FastPath(tracer, tracer.id_generator, made, prediction, tracer.sampler), ""


def _unsuited(tracer: object) -> str | None:
    """Why `tracer` has to make its spans itself, seen from outside; None if nothing is seen."""
    if type(tracer) is not Tracer:
        # A tracer that makes no spans, because OTEL_SDK_DISABLED is set, needs no reason.
        name = type(tracer).__name__
        return "" if isinstance(tracer, NoOpTracer) else f"the tracer is a {name}"
    if Tracer.start_span is not _START_SPAN or "start_span" in vars(tracer):
        return "Tracer.start_span is patched: it has to see every span"
    metrics = type(getattr(tracer, "_tracer_metrics", None)).__name__
    if metrics == "NoneType":
        return "not written for this SDK (Tracer._tracer_metrics)"
    if not metrics.startswith("NoOp"):
        # OTEL_PYTHON_SDK_INTERNAL_METRICS_ENABLED: it has to see every span, to count it.
        return f"the tracer counts its spans ({metrics})"
    if type(getattr(getattr(tracer, "_tracer_config", None), "is_enabled", None)) is not bool:
        return "not written for this SDK (Tracer._tracer_config)"
    return None


class _Received(SpanProcessor):
    """Notes all that a processor may see of one span."""

    def __init__(self) -> None:
        self.noted: list[tuple[str, Any]] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        parent = get_current_span(parent_context).get_span_context()
        self.noted += [("parent_context", parent), *_fields(span, "on_start")]

    def _on_ending(self, span: Span) -> None:
        self.noted += _fields(span, "on_ending")

    def on_end(self, span: ReadableSpan) -> None:
        self.noted += [("type", type(span)), *_fields(span, "on_end")]


_VARY = {"to_json", "context", "get_span_context"}


def _fields(span: Any, when: str) -> Iterator[tuple[str, Any]]:
    """(name, value) of everything public about a span."""
    for name in sorted(set(dir(ReadableSpan)) - _VARY):
        if name.startswith("_") or name == "instrumentation_info":
            continue
        value = getattr(span, name)
        if name in {"events", "links"}:
            value = [
                (getattr(each, "name", ""), getattr(each, "context", None), dict(each.attributes))
                for each in value
            ]
        elif name == "attributes":
            value = list(value.items())
        elif name == "status":
            value = (value.status_code, value.description)
        elif callable(value):
            continue
        yield f"{when}: {name}", value
    context = span.get_span_context()
    yield f"{when}: context", (context.trace_id, context.is_remote, context.trace_flags)
    yield f"{when}: state", dict(context.trace_state)
    told = json.loads(span.to_json())
    for each in (told, *told["events"]):
        each.pop("timestamp", None)
    told["context"].pop("span_id")
    yield f"{when}: to_json", told
    yield f"{when}: is_recording", getattr(span, "is_recording", bool)()


_TRACE_ID = 0x4BF92F3577B34DA6A3CE929D0E0E4736
_FLAGS = TraceFlags(TraceFlags.SAMPLED | RANDOM)
_PARENT = SpanContext(_TRACE_ID, 0xF067AA0BA902B7, True, _FLAGS, TraceState([("vendor", "value")]))
_START, _END = 1_700_000_000_000_000_000, 1_700_000_001_000_000_000


def _difference(tracer: Tracer) -> str:
    """What differs between a span of the fast path and one of the SDK; empty if nothing does."""
    from .fast_span import FastTracer

    made = FastTracer.remote_parent(
        format_trace_id(_PARENT.trace_id), format_span_id(_PARENT.span_id), int(_FLAGS)
    )
    if made != SpanContext(_TRACE_ID, _PARENT.span_id, is_remote=True, trace_flags=_FLAGS):
        return "SpanContext"
    limits: Any = tracer._span_limits
    trial: Any = copy.copy(tracer)
    trial.sampler = ALWAYS_ON
    # The real limits may warn of what this tries, and are applied by the SDK's own code.
    trial._span_limits = type(limits)(max_span_attribute_length=SpanLimits.UNSET)
    for use in (_use_much, _use_little):
        links = [Link(SpanContext(1, 2, is_remote=True), {"a": 1})] if use is _use_much else []
        received = []
        for is_fast in (True, False):
            # Links keep what the SDK puts into them.
            mine = copy.deepcopy(links)
            noted = _Received()
            trial.span_processor = SynchronousMultiSpanProcessor()  # type: ignore[no-untyped-call]
            trial.span_processor.add_span_processor(noted)
            attributes: dict[str, str | int] = {"order.id": "ORD1", "server.port": 8080}
            context = set_span_in_context(NonRecordingSpan(_PARENT), Context())
            if is_fast:
                hexed = format_trace_id(_TRACE_ID)
                span: Span = FastTracer(trial).start(
                    "POST", hexed, 1, int(_FLAGS), _PARENT, attributes, mine, _START, Context()
                )
            else:
                span = _START_SPAN(
                    trial, "POST", context, SpanKind.SERVER, attributes, mine, _START
                )
            use(span)
            span.end(_END)
            noted.noted += [("after the end: is_recording", span.is_recording())]
            received.append(noted.noted)
        for fast, slow in zip(*received, strict=True):
            if fast != slow:
                return f"{slow[0]}: {fast[1]!r} instead of {slow[1]!r}"[:300]
    return ""


def _use_much(span: Span) -> None:
    span.update_name("POST /orders")
    span.set_attribute("http.route", "/orders")
    span.set_attribute("http.response.status_code", 500)
    span.set_attribute("server.port", 81)
    span.set_attributes({"list": ["a", "b"], "number": 1.5, "truth": True})
    span.add_event("an event", {"name": "value"}, _START)
    span.record_exception(ValueError("no stock"), timestamp=_START)
    span.add_link(SpanContext(3, 4, is_remote=False), {"b": 2})
    span.set_status(Status(StatusCode.ERROR))


def _use_little(span: Span) -> None:
    span.set_attribute("http.response.status_code", 200)
