"""Sampled server spans made without the SDK's detours. Imported by `fast_path` only, guarded.

The SDK's tracer asks the sampler, cleans every attribute, makes lists for events and links, and
copies a span field by field when it ends. Here the sampler's answer is predicted, the attributes
are strings and integers under proper names, and what a span does not have is not made.

Everything here leans on private names of the SDK's: the fields of `_Span`, `ReadableSpan` and
`BoundedAttributes`. `fast_path` compares one span made here with one of the SDK's before it
believes any of it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
    Tracer,
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
    set_span_in_context,
)
from opentelemetry.trace.span import DEFAULT_TRACE_STATE

if TYPE_CHECKING:
    from collections.abc import Iterable

Attributes = dict[str, str | int]

_new = object.__new__
_new_tuple = tuple.__new__
_UNSET = Status(StatusCode.UNSET)
_PLAIN = frozenset({int, str})
_NAMES = frozenset({str})
_TUPLES = frozenset({tuple})
_NO_STATE = DEFAULT_TRACE_STATE
_FLAGS = tuple(map(TraceFlags, range(256)))


class UnknownField(Exception):
    """An object of the SDK's has a field that this module does not know how to fill."""


def _constants(made: object, filled: Iterable[str]) -> dict[str, Any]:
    """The fields of one of the SDK's objects that are the same in all of them.

    :param filled: the fields that this module fills for each object.
    :raises UnknownField: a field is left that objects cannot share.
    """
    constants = {name: value for name, value in vars(made).items() if name not in set(filled)}
    for name, value in constants.items():
        if not (value is None or isinstance(value, bool | int | str)):
            raise UnknownField(f"{type(made).__name__}.{name}")
    return constants


_SPAN_CONSTANTS = _constants(
    _Span("", INVALID_SPAN_CONTEXT, resource=Resource.get_empty(), limits=SpanLimits()),
    (
        *("_attributes", "_context", "_end_time", "_events", "_instrumentation_info"),
        *("_instrumentation_scope", "_kind", "_limits", "_links", "_lock", "_name", "_parent"),
        *("_resource", "_sampler", "_span_processor", "_start_time", "_status"),
    ),
)
_ATTRIBUTES_CONSTANTS = _constants(
    BoundedAttributes(immutable=False), ("_dict", "_lock", "dropped", "max_value_len", "maxlen")
)


class FastTracer:
    """Starts the sampled server spans of one of the SDK's tracers."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        # What all spans of a tracer share is said once, by their class.
        shared = {
            **_SPAN_CONSTANTS,
            "__module__": __name__,
            "_kind": SpanKind.SERVER,
            "_resource": tracer.resource,
            "_instrumentation_info": tracer.instrumentation_info,
            "_instrumentation_scope": tracer._instrumentation_scope,
            "_end_time": None,
            "_status": _UNSET,
        }
        self._class = type(FastSpan.__name__, (FastSpan,), shared)

    @staticmethod
    def remote_parent(trace_id: str, span_id: str, flags: int) -> SpanContext:
        """The parent that a valid traceparent names.

        :param trace_id: 32 lower-case hex digits.
        :param span_id: 16 lower-case hex digits.
        :param flags: W3C trace flags.
        """
        fields = (int(trace_id, 16), int(span_id, 16), True, _FLAGS[flags], _NO_STATE, True)
        return _new_tuple(SpanContext, fields)

    def start(  # noqa: PLR0913, PLR0917 - what a span is made of
        self,
        name: str,
        trace_id: str,
        span_id: int,
        flags: int,
        parent: SpanContext | None,
        attributes: Attributes,
        links: list[Link] | None,
        start_time: int,
        current: Mapping[str, Any],
        more: Callable[[], Mapping[str, str]] | None = None,
    ) -> FastSpan:
        """A span, started.

        :param trace_id: 32 lower-case hex digits.
        :param flags: its own W3C trace flags.
        :param attributes: the span takes this very dict over.
        :param start_time: nanoseconds since 1970.
        :param current: the current context; a remote `parent` need not be in it.
        :param more: gives further attributes; called if a processor looks at spans that start.
        """
        tracer = self._tracer
        # The constructor of SpanContext checks what is known here.
        state = _NO_STATE
        if parent is not None:
            *_, state, _ = parent
        number = int(trace_id, 16)
        context = _new_tuple(SpanContext, (number, span_id, False, _FLAGS[flags], state, True))
        limits = tracer._span_limits
        span: FastSpan = _new(self._class)
        span._name = name
        span._context = context
        span._parent = parent
        span._sampler = tracer.sampler
        span._span_processor = tracer.span_processor
        span._limits = limits
        span._lock = Lock()
        span._attributes = _bounded(limits, attributes)
        span._start_time = start_time
        if links:
            span._links = span._new_links(links)
        context_below = None
        for processor in _processors(tracer.span_processor):
            on_start = processor.on_start
            if getattr(on_start, "__func__", None) in _IDLE_STARTS or (
                getattr(type(processor), "ignores_fast_spans", False)
            ):
                continue
            if context_below is None:
                if more is not None:
                    span.set_attributes(more())
                context_below = Context(current)
                if parent is not None and parent.is_remote:
                    context_below = set_span_in_context(NonRecordingSpan(parent), context_below)
            on_start(span, parent_context=context_below)
        return span


# Calling a processor costs time even where it does nothing. Which functions do nothing is noted
# here, before anybody can have patched them, and looked up on the processor itself for every span:
# a method set on the instance or a patched class is called as the SDK would call it.
_IDLE_STARTS = frozenset(
    kind.on_start for kind in (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)
)
_IDLE_ENDINGS = frozenset(
    kind._on_ending for kind in (SpanProcessor, SimpleSpanProcessor, BatchSpanProcessor)
)
_MULTI = vars(SynchronousMultiSpanProcessor)
_MULTI_METHODS = {name: _MULTI[name] for name in ("on_start", "_on_ending", "on_end")}


def _processors(processor: Any) -> tuple[SpanProcessor, ...]:
    """The processors behind the SDK's usual one, which only passes on; any other one itself."""
    if type(processor) is SynchronousMultiSpanProcessor and not (
        _MULTI_METHODS.keys() & processor.__dict__.keys()
    ):
        for name, function in _MULTI_METHODS.items():
            if _MULTI[name] is not function:
                return (processor,)
        return processor._span_processors
    return (processor,)


def _bounded(limits: SpanLimits, attributes: Attributes) -> BoundedAttributes:
    most, longest = limits.max_span_attributes, limits.max_span_attribute_length
    if longest is not None or (most is not None and len(attributes) > most):
        return BoundedAttributes(most, attributes, immutable=False, max_value_len=longest)
    bounded: BoundedAttributes = _new(BoundedAttributes)
    bounded.__dict__.update(
        _ATTRIBUTES_CONSTANTS,
        _dict=attributes,
        _lock=Lock(),
        maxlen=most,
        dropped=0,
        max_value_len=None,
    )
    return bounded


def _has_lists_of_texts(values: Collection[Any]) -> bool:
    """Whether all that is neither text nor integer is a tuple of texts."""
    return set(map(type, values)) - _PLAIN == _TUPLES and all(
        _NAMES.issuperset(map(type, each)) for each in values if type(each) is tuple
    )


class FastSpan(_Span):
    """One of the SDK's spans; `FastTracer.start` makes it, `end` hands it to the processors.

    Its lists of events and links are made when the first comes.
    """

    __new__ = object.__new__

    def __getattr__(self, name: str) -> Any:
        if name == "_events":
            made: BoundedList[Any] = BoundedList(self._limits.max_events)
        elif name == "_links":
            made = BoundedList(self._limits.max_links)
        else:
            raise AttributeError(name)
        # Another thread may have made it first.
        return self.__dict__.setdefault(name, made)

    def set_attribute(self, key: str, value: Any) -> None:
        """As the SDK's; a route or a status code needs no cleaning."""
        bounded: Any = self._attributes
        held = bounded._dict
        if (
            type(value) in _PLAIN
            and key
            and type(key) is str
            and self._end_time is None
            and bounded.max_value_len is None
            and (bounded.maxlen is None or len(held) < bounded.maxlen)
            and key not in held
        ):
            held[key] = value
        else:
            super().set_attribute(key, value)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        """As the SDK's; new texts, integers and lists of texts need no cleaning."""
        bounded: Any = self._attributes
        held = bounded._dict
        if (
            (
                _PLAIN.issuperset(map(type, attributes.values()))
                or _has_lists_of_texts(attributes.values())
            )
            and _NAMES.issuperset(map(type, attributes))
            and "" not in attributes
            and self._end_time is None
            and bounded.max_value_len is None
            and (bounded.maxlen is None or len(held) + len(attributes) <= bounded.maxlen)
            and held.keys().isdisjoint(attributes)
        ):
            held.update(attributes)
        else:
            super().set_attributes(attributes)

    def update_name(self, name: str) -> None:
        """As the SDK's."""
        if self._end_time is None:
            self._name = name
        else:
            super().update_name(name)

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
        fields = self.__dict__
        ended: Any = _new(ReadableSpan)
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
        ended._events = fields.get("_events", ())
        ended._links = fields.get("_links", ())
        processors = _processors(self._span_processor)
        for processor in processors:
            on_ending = getattr(processor, "_on_ending", None)
            if getattr(on_ending, "__func__", None) not in _IDLE_ENDINGS and on_ending is not None:
                on_ending(self)
        for processor in processors:
            processor.on_end(ended)
