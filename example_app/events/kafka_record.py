"""Events as records of Kafka: CloudEvents in binary form.

The payload is the value, all else is in headers, and so are trace context and baggage.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import msgspec

from example_app.events.bus import Partition, Place
from example_app.events.event import Event

if TYPE_CHECKING:
    from confluent_kafka import Message

_ID, _TYPE = "ce_id", "ce_type"
_OURS = {"ce_specversion": "1.0", "ce_source": "/example_app", "content-type": "application/json"}


def headers(event: Event) -> list[tuple[str, str | bytes | None]]:
    """Return the headers of an event's record."""
    known = {**event.headers, **_OURS, _ID: event.event_id, _TYPE: event.topic}
    return [(name, value.encode()) for name, value in known.items()]


def event_of(message: Message) -> Event:
    """Read a record; KeyError, ValueError or MsgspecError where it is no event."""
    pairs = cast("list[tuple[str, bytes | None]]", message.headers() or [])
    headers = {name: _text(value) for name, value in pairs}
    return Event(
        event_id=headers.pop(_ID),
        topic=headers.pop(_TYPE),
        key=_text(message.key()),
        headers={name: value for name, value in headers.items() if name not in _OURS},
        payload=msgspec.json.decode(message.value() or b"", type=dict),
    )


def _text(value: str | bytes | None) -> str:
    return value.decode() if isinstance(value, bytes) else value or ""


def place_of(message: Message) -> Place:
    """Return where a record is."""
    partition = Partition(message.topic() or "", message.partition() or 0)
    return Place(partition, message.offset() or 0)
