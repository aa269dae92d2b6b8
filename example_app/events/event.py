"""What an event is, and how the trace travels with it."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

import msgspec
from opentelemetry import propagate

PLACED = "order.placed"
PAID = "order.paid"
PAYMENT_FAILED = "order.payment_failed"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened to an order.

    :ivar event_id: the same however often it is delivered.
    :ivar topic: what happened.
    :ivar key: events of one key stay in their order.
    :ivar headers: trace context and baggage, as in HTTP.
    :ivar payload: what JSON can hold.
    """

    event_id: str
    topic: str
    key: str
    headers: Mapping[str, str]
    payload: dict[str, Any]


def new_event(topic: str, key: str, payload: dict[str, Any]) -> Event:
    """Return an event that belongs to the current trace."""
    headers: dict[str, str] = {}
    propagate.inject(headers)
    return Event(event_id=uuid.uuid4().hex, topic=topic, key=key, headers=headers, payload=payload)
