"""What an exporter takes from an ended span, read at once.

`read` asks the span's public properties, each of which is a call and some of which copy. Where the
spans of this SDK keep their fields as they did when this was written, they are taken from there:
found out by reading a span both ways.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, TraceFlags, TraceState

try:
    from opentelemetry.attributes import BoundedAttributes
    from opentelemetry.sdk.util import BoundedList
    from opentelemetry.trace.span import DEFAULT_TRACE_STATE
except ImportError:  # another SDK than this was written for: `_agree` finds that out
    BoundedAttributes = BoundedList = None  # type: ignore[assignment, misc]

# fmt: off
SpanFields = tuple[
    int, int, "TraceState | None", "SpanContext | None", str, SpanKind, "int | None", "int | None",
    Mapping[str, Any], int, Collection[Any], int, Collection[Any], int, Status,
]
# fmt: on
"""One span but for its resource and scope: trace id, span id, trace state (None if it is empty),
parent, name, kind, start and end in nanoseconds since 1970, attributes and how many were dropped,
events likewise, links likewise, status."""

Read = tuple[Resource, "InstrumentationScope | None", SpanFields]


def read_public(span: ReadableSpan) -> Read:
    """By the span's public properties."""
    context: Any = span.get_span_context()
    fields = (
        context.trace_id,
        context.span_id,
        context.trace_state or None,
        span.parent,
        span.name,
        span.kind,
        span.start_time,
        span.end_time,
        dict(span.attributes or {}),
        span.dropped_attributes,
        span.events,
        span.dropped_events,
        span.links,
        span.dropped_links,
        span.status,
    )
    return span.resource, span.instrumentation_scope, fields


_NONE: dict[str, Any] = {}


def _read_fields(span: ReadableSpan) -> Read:
    if type(span) is not ReadableSpan:
        return read_public(span)
    fields = span.__dict__
    trace_id, span_id, _, _, state, _ = fields["_context"]
    attributes: Any = fields["_attributes"]
    dropped = 0
    if type(attributes) is BoundedAttributes:
        attributes, dropped = attributes._dict, attributes.dropped
    events: Any = fields["_events"]
    links: Any = fields["_links"]
    dropped_events = dropped_links = 0
    if type(events) is BoundedList:
        events, dropped_events = events._dq, events.dropped  # type: ignore[attr-defined]
    if type(links) is BoundedList:
        links, dropped_links = links._dq, links.dropped  # type: ignore[attr-defined]
    return (
        fields["_resource"],
        fields["_instrumentation_scope"],
        (
            trace_id,
            span_id,
            None if state is DEFAULT_TRACE_STATE or not state else state,
            fields["_parent"],
            fields["_name"],
            fields["_kind"],
            fields["_start_time"],
            fields["_end_time"],
            attributes or _NONE,
            dropped,
            events,
            dropped_events,
            links,
            dropped_links,
            fields["_status"],
        ),
    )


def _plain(field: object) -> object:
    """As the public property gives it."""
    if isinstance(field, Mapping):
        return dict(field)
    return tuple(field) if isinstance(field, deque) else field


def _agree() -> bool:
    state = TraceState([("vendor", "value")])
    context = SpanContext(1, 2, True, TraceFlags(1), state)
    attributes = BoundedAttributes(None, {"a": 1, "b": 2}, immutable=True)
    none_left = BoundedAttributes(0, {"a": 1}, immutable=True)
    events: BoundedList[Any] = BoundedList(1)
    events.extend([Event("one"), Event("two")])
    links: BoundedList[Any] = BoundedList(1)
    links.append(Link(context))
    for spec in (
        (attributes, events, links),
        (none_left, (), ()),
        ({"a": 1}, (), ()),
        (None, (), ()),
    ):
        span = ReadableSpan(
            "name", context, context, Resource({"a": 1}), spec[0], spec[1], spec[2],
            SpanKind.SERVER, start_time=1, end_time=2,
            instrumentation_scope=InstrumentationScope("scope"),
        )  # fmt: skip
        (*source, public), (*same_source, private) = read_public(span), _read_fields(span)
        if source != same_source:
            return False
        for one, other in zip(public, private, strict=True):
            if one != _plain(other):
                return False
    return True


def _choose() -> Callable[[ReadableSpan], Read]:
    try:
        return _read_fields if _agree() else read_public
    except Exception:  # noqa: BLE001 - another SDK than this was written for
        return read_public


read: Callable[[ReadableSpan], Read] = _choose()


def attributes_of(part: Event | Link) -> tuple[Mapping[str, Any], int]:
    """The attributes of an event or a link, copied only where they have to be; how many dropped."""
    attributes: Any = part.attributes
    if type(attributes) is BoundedAttributes and read is _read_fields:
        return attributes._dict, attributes.dropped
    return dict(attributes or {}), part.dropped_attributes
