"""Server spans made as the SDK's tracer makes them, in a fifth of its steps.

The SDK asks the sampler, cleans every attribute, makes lists for events and links, and copies the
span field by field when it ends. Here the sampler's answer is known (`sampling`), the attributes
are strings and numbers under proper names, and what a span does not have is not made. Where the
SDK's spans are not as they were when this was written, the SDK makes them (`IS_KNOWN`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from threading import Lock
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanLimits,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    _Span,
)
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.util import BoundedList
from opentelemetry.trace import (
    INVALID_SPAN_CONTEXT,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

if TYPE_CHECKING:
    from .sampling import Foresight


Attributes = dict[str, str | int]

_BLIND = (BatchSpanProcessor, SimpleSpanProcessor)
_new = object.__new__
_new_tuple = tuple.__new__
_UNSET = Status(StatusCode.UNSET)
_FLAGS = tuple(map(TraceFlags, range(256)))


def span_context(
    trace_id: int, span_id: int, flags: int, state: TraceState | None, *, is_remote: bool
) -> SpanContext:
    """A valid span context, without the checks of its constructor (0.3 us)."""
    return _new_tuple(
        SpanContext,
        (trace_id, span_id, is_remote, _FLAGS[flags], state or DEFAULT_TRACE_STATE, True),
    )


class Recorder:
    """Starts the server spans of a tracer, one of the SDK's.

    :param foresight: tells what its sampler will say.
    """

    def __init__(self, foresight: Foresight) -> None:
        tracer = foresight.tracer
        self.foresight = foresight
        self.generator = tracer.id_generator
        self._tracer = tracer
        several = tracer.span_processor
        self._several: Any = several
        if type(several) is not SynchronousMultiSpanProcessor:
            self._several = _Only((several,))
        self._seen: object = None
        self._starting: list[SpanProcessor] = []
        self._ending: list[SpanProcessor] = []

    def start(  # noqa: PLR0913, PLR0917 - what a span is made of
        self,
        name: str,
        context: SpanContext,
        parent: SpanContext | None,
        attributes: Attributes,
        links: list[Link] | None,
        start_time: int,
        current: Mapping[str, Any],
    ) -> ServerSpan:
        """A sampled span, started.

        :param attributes: taken over as they are.
        :param start_time: nanoseconds since 1970.
        :param current: what is current, but for a remote `parent`.
        """
        tracer = self._tracer
        limits = tracer._span_limits
        span: ServerSpan = _new(ServerSpan)
        span._name = span._first_name = name
        span._context = context
        span._kind = SpanKind.SERVER
        span._parent = parent
        span._resource = tracer.resource
        span._instrumentation_info = tracer.instrumentation_info
        span._instrumentation_scope = tracer._instrumentation_scope
        span._sampler = tracer.sampler
        span._span_processor = tracer.span_processor
        span._limits = limits
        span._lock = Lock()
        span._attributes = _bounded(limits, attributes)
        span._start_time = start_time
        span._end_time = None
        span._status = _UNSET
        span._recorder = self
        span._has_more = bool(links)
        if links:
            span._links = span._new_links(links)
        if self._several._span_processors is not self._seen:
            self._look()
        if self._starting:
            context_below = Context(current)
            if parent is not None and parent.is_remote:
                context_below = set_span_in_context(NonRecordingSpan(parent), context_below)
            for processor in self._starting:
                processor.on_start(span, parent_context=context_below)
        return span

    def end(self, span: ServerSpan, ended: ReadableSpan) -> None:
        """Hand `ended` to all processors there are by now."""
        processors = self._several._span_processors
        if processors is not self._seen:
            self._look()
        for processor in self._ending:
            processor._on_ending(span)
        for processor in processors:
            processor.on_end(ended)

    def _look(self) -> None:
        """See which processors do anything but take spans that ended; others are not called."""
        processors = self._several._span_processors
        self._starting = [each for each in processors if _watches(each, "on_start")]
        self._ending = [each for each in processors if _watches(each, "_on_ending")]
        self._seen = processors


@dataclass(frozen=True)
class _Only:
    """A processor that is not several, as if it were."""

    _span_processors: tuple[SpanProcessor]


def _watches(processor: SpanProcessor, method: str) -> bool:
    kind = type(processor)
    return not (
        kind in _BLIND
        or getattr(kind, method) is getattr(SpanProcessor, method)
        or getattr(kind, "ignores_server_spans", False)
    )


def _bounded(limits: SpanLimits, attributes: Attributes) -> BoundedAttributes:
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    if longest is not None or (most is not None and len(attributes) > most):
        return BoundedAttributes(most, attributes, immutable=False, max_value_len=longest)
    store: BoundedAttributes = _new(BoundedAttributes)
    store._dict = attributes  # type: ignore[assignment]
    store.maxlen = most
    store.dropped = 0
    store.max_value_len = None
    store._lock = Lock()
    store._immutable = False
    return store


class ServerSpan(_Span):
    """One of the SDK's spans: `Recorder.start` makes it, `end` hands it to the processors.

    Events and links are made when the first comes.
    """

    __new__ = object.__new__

    _first_name: str
    _recorder: Recorder
    _has_more: bool
    """Whether there are lists of events and links."""
    _trace_config = None
    _record_exception = True
    _set_status_on_exception = True
    _record_end_metrics = None

    def __getattr__(self, name: str) -> Any:
        if name == "_events":
            made: BoundedList[Any] = BoundedList(self._limits.max_events)
        elif name == "_links":
            made = BoundedList(self._limits.max_links)
        else:
            raise AttributeError(name)
        self._has_more = True
        # Another thread may have been faster.
        return self.__dict__.setdefault(name, made)

    def put(self, name: str, value: str | int) -> None:
        """As `set_attribute`, for what needs no cleaning."""
        store: Any = self._attributes
        held = store._dict
        if (
            self._end_time is None
            and store.max_value_len is None
            and (store.maxlen is None or len(held) < store.maxlen)
        ):
            held[name] = value
        else:
            self.set_attribute(name, value)

    def matched(self, route: str) -> None:
        """The URL matched `route`: be called by it, unless somebody chose a name already."""
        if self._name is self._first_name and self._end_time is None:
            self._name = f"{self._first_name} {route}"
        self.put("http.route", route)

    def end(self, end_time: int | None = None) -> None:
        """End it, once; as the SDK's."""
        with self._lock:
            first = self._end_time is None
            if first:
                self._end_time = time_ns() if end_time is None else end_time
                self._attributes._immutable = True  # type: ignore[union-attr]
        if not first:
            super().end(end_time)  # which says so in the log
            return
        ended: ReadableSpan = _new(ReadableSpan)
        ended._name = self._name
        ended._context = self._context
        ended._kind = self._kind
        ended._parent = self._parent
        ended._resource = self._resource
        ended._instrumentation_info = self._instrumentation_info
        ended._instrumentation_scope = self._instrumentation_scope
        ended._attributes = self._attributes
        ended._start_time = self._start_time
        ended._end_time = self._end_time
        ended._status = self._status
        ended._events = self._events if self._has_more else ()
        ended._links = self._links if self._has_more else ()
        self._recorder.end(self, ended)


def _is_known() -> bool:
    """Whether the SDK's objects have the fields that are put into them here, and no others."""
    try:
        known = vars(_Span("", INVALID_SPAN_CONTEXT, resource=Resource.get_empty())).keys()
        ended = vars(ReadableSpan("", resource=Resource.get_empty())).keys()
        store = vars(BoundedAttributes()).keys()
    except Exception:  # noqa: BLE001 - whatever it is, it is not what is known here
        return False
    return (
        known
        == {
            *("_attributes", "_context", "_end_time", "_events", "_instrumentation_info"),
            *("_instrumentation_scope", "_kind", "_limits", "_links", "_lock", "_name", "_parent"),
            *("_record_end_metrics", "_record_exception", "_resource", "_sampler"),
            *("_set_status_on_exception", "_span_processor", "_start_time", "_status"),
            "_trace_config",
        }
        and ended <= known
        and store == {"_dict", "_immutable", "_lock", "dropped", "max_value_len", "maxlen"}
        and len(INVALID_SPAN_CONTEXT) == len(span_context(1, 1, 0, None, is_remote=True))
    )


IS_KNOWN = _is_known()
"""Whether the SDK's spans are those this was written for."""
