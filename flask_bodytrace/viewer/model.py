"""What the viewer keeps: spans and log records as plain values, whatever format they came in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from msgspec import Struct

Value: TypeAlias = "str | bool | int | float | bytes | list[Any] | dict[str, Any] | None"
"""An OTLP ``AnyValue``; lists and dicts hold more of the same."""

Attributes: TypeAlias = Mapping[str, Value]

KINDS = ("unspecified", "internal", "server", "client", "producer", "consumer")
"""Span kinds by their number in OTLP."""
ANSWERING = frozenset({KINDS.index("server"), KINDS.index("consumer")})
"""The kinds of spans that answer a request, or handle a message."""


class Event(Struct, frozen=True, gc=False):
    """Something that happened during a span; `time` in ns since 1970."""

    name: str
    time: int
    attributes: Attributes


class Link(Struct, frozen=True, gc=False):
    """Another span that this one says it belongs with."""

    trace_id: str
    span_id: str
    attributes: Attributes


class Span(Struct, frozen=True, gc=False):
    """One span. Ids are lower-case hex, times ns since 1970, `kind` and `status` OTLP's numbers."""

    trace_id: str
    span_id: str
    parent_id: str | None
    name: str
    kind: int
    start: int
    end: int
    status: int
    status_message: str
    service: str
    scope: str
    trace_state: str
    resource: Attributes
    attributes: Attributes
    events: Sequence[Event]
    links: Sequence[Link]
    dropped: int = 0
    """Attributes, events and links that the service itself left out."""

    @property
    def duration(self) -> int:
        """Nanoseconds; negative if the service's clock ran backwards."""
        return self.end - self.start

    @property
    def failed(self) -> bool:
        """Whether its status is an error."""
        return self.status == 2


class LogRecord(Struct, frozen=True, gc=False):
    """A log record; `trace_id` is empty where it was written outside of any span."""

    trace_id: str
    span_id: str | None
    time: int
    severity: str
    severity_number: int
    body: Value
    service: str
    scope: str
    attributes: Attributes


def weigh(item: Span | LogRecord) -> int:
    """About how many bytes of memory an item holds, resource aside, which many items share."""
    size = 700 + _weigh_map(item.attributes) + _weigh(item.service) + _weigh(item.scope)
    if isinstance(item, LogRecord):
        return size + _weigh(item.body) + _weigh(item.severity)
    size += len(item.name) + len(item.status_message) + len(item.trace_state)
    for event in item.events:
        size += 200 + len(event.name) + _weigh_map(event.attributes)
    for link in item.links:
        size += 300 + _weigh_map(link.attributes)
    return size


def weigh_resource(span: Span) -> int:
    """About how many bytes of memory the resource of a span holds."""
    return _weigh_map(span.resource) if span.resource else 0


def _weigh_map(attributes: Mapping[str, Any]) -> int:
    size = 64
    for key, value in attributes.items():
        # A string that is not ASCII may take four bytes a character.
        size += 160 + len(key)
        kind = type(value)
        if kind is str:
            size += len(value) if value.isascii() else 4 * len(value)
        elif kind is not int and kind is not bool:
            size += _weigh(value)
    return size


def _weigh(value: Any) -> int:
    if isinstance(value, str):
        return 50 + (len(value) if value.isascii() else 4 * len(value))
    if isinstance(value, bytes):
        return 40 + len(value)
    if isinstance(value, Mapping):
        return _weigh_map(value)
    if isinstance(value, Sequence):
        return 60 + sum(map(_weigh, value)) + 8 * len(value)
    return 32
