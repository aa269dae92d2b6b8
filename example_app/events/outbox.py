"""The transactional outbox, and the relay that empties it into the bus.

An event is stored in the transaction that changes the order, so there is never one without the
other. It is removed only after the bus has it: killed between the two, the relay publishes it
again, and consumers know it by its id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, set_span_in_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Tracer

    from example_app.events.bus import Publisher
    from example_app.events.event import Event

_IDLE_S = 1.0
_log = logging.getLogger(__name__)


class Outbox(Protocol):
    """Events stored, and not yet published."""

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        """Hand all events to `publish`, in their order, and remove what it has taken.

        :returns: their number.
        """


class Relay:
    """Publishes from an outbox, on a thread of its own: at once when woken, else every second."""

    def __init__(self, outbox: Outbox, publisher: Publisher, tracer: Tracer) -> None:
        self._outbox = outbox
        self._publisher = publisher
        self._tracer = tracer
        self._awake = threading.Event()
        self._stopped = False

    def wake(self) -> None:
        """Say that there are events."""
        self._awake.set()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for as long as the block lasts; what is stored at its end is published still."""
        thread = threading.Thread(target=self._run, name="relay")
        thread.start()
        try:
            yield
        finally:
            self._stopped = True
            self._awake.set()
            thread.join()

    def _run(self) -> None:
        stopped = False
        while not stopped:
            stopped = self._stopped
            self._awake.clear()
            try:
                published = self._outbox.drain(self._publish)
            except Exception:  # noqa: BLE001 - whatever it is, the relay must go on
                _log.exception("the outbox cannot be published; it is tried again")
                published = 0
            if not published and not stopped:
                self._awake.wait(_IDLE_S)

    def _publish(self, events: Sequence[Event]) -> None:
        with ExitStack() as spans:
            self._publisher.publish([self._traced(event, spans) for event in events])

    def _traced(self, event: Event, spans: ExitStack) -> Event:
        """The same event below a PRODUCER span, which ends with `spans`."""
        origin = propagate.extract(event.headers)
        span = spans.enter_context(
            self._tracer.start_as_current_span(
                f"send {event.topic}",
                context=origin,
                kind=SpanKind.PRODUCER,
                attributes={
                    **ids_of(event),
                    "messaging.system": self._publisher.system,
                    "messaging.destination.name": event.topic,
                    "messaging.operation.name": "send",
                    "messaging.operation.type": "send",
                    "messaging.message.id": event.event_id,
                },
            )
        )
        headers: dict[str, str] = {}
        propagate.inject(headers, set_span_in_context(span, origin))
        return msgspec.structs.replace(event, headers=headers)


def ids_of(event: Event) -> dict[str, Any]:
    """Return the business ids that the event carries, as attributes."""
    names = {"order.id": "orderId", "user.id": "userId"}
    return {name: event.payload[key] for name, key in names.items() if key in event.payload}
