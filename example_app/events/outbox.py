"""The transactional outbox, and the relay that empties it into the bus.

An event is stored in the transaction that changes the order, so there is never one without the
other. It is removed only after the bus has it: killed between the two, the relay publishes it
again, and consumers know it by its id.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, set_span_in_context

from example_app.events.bus import destination_of
from example_app.events.state import Doing, LoopState

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from opentelemetry.trace import Span, Tracer

    from example_app.events.bus import Publisher
    from example_app.events.event import Event

_IDLE_S = 1.0
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class Outbox(Protocol):
    """Events stored in one database, and not yet published.

    :ivar name: the database's.
    """

    name: str

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        """Hand all events to `publish`, in their order, and remove what it has taken.

        Those that are stored meanwhile may be left for the next time, as `wait` returns at once.
        What it has taken and could not be removed is not handed over again by this process.

        :returns: their number.
        """

    def wait(self, timeout_s: float) -> None:
        """Return once an event was stored by this process, once woken, or after `timeout_s`."""

    def wake(self) -> None:
        """End `wait`."""


class Relay:
    """Publishes from outboxes: at once what this process stores, else within a second.

    Each has a thread of its own, so that a database that is slow or down holds up no other.

    :ivar states: how it goes, by the outbox's name.
    """

    def __init__(self, outboxes: Sequence[Outbox], publisher: Publisher, tracer: Tracer) -> None:
        self._outboxes = outboxes
        self._publisher = publisher
        self._tracer = tracer
        self._stop = threading.Event()
        self.states: Mapping[str, LoopState] = {
            outbox.name: LoopState({"example.outbox": outbox.name}) for outbox in outboxes
        }

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for as long as the block lasts; what is stored at its end is published still."""
        threads = [
            threading.Thread(target=self._run, args=(outbox,), name=f"relay {outbox.name}")
            for outbox in self._outboxes
        ]
        for state in self.states.values():
            state.running()
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for outbox in self._outboxes:
                outbox.wake()
            for thread in threads:
                thread.join()

    def _run(self, outbox: Outbox) -> None:
        state, pause_s, stopped = self.states[outbox.name], _FIRST_RETRY_S, False
        while not stopped:
            # Looked at before, so that what was stored until then is published still.
            stopped = self._stop.is_set()
            try:
                outbox.drain(self._publish)
            except Exception as error:  # noqa: BLE001 - whatever it is, the relay must go on
                if state.doing is not Doing.BACKING_OFF:
                    _log.warning("the outbox of %s waits: %s", outbox.name, error)
                state.backing_off("publishing", error)
                self._stop.wait(pause_s)
                pause_s = min(2 * pause_s, _LAST_RETRY_S)
            else:
                state.running()
                pause_s = _FIRST_RETRY_S
                if not stopped:
                    outbox.wait(_IDLE_S)
        state.stopped()

    def _publish(self, events: Sequence[Event]) -> None:
        with ExitStack() as ending:
            spans = [ending.enter_context(self._span(event)) for event in events]
            traced = [_below(span, event) for span, event in zip(spans, events, strict=True)]
            for span, place in zip(spans, self._publisher.publish(traced), strict=True):
                span.set_attributes(place.attributes())

    def _span(self, event: Event) -> AbstractContextManager[Span]:
        return self._tracer.start_as_current_span(
            f"send {event.topic}",
            context=propagate.extract(event.headers),
            kind=SpanKind.PRODUCER,
            attributes={
                **ids_of(event),
                "messaging.system": self._publisher.system,
                "messaging.destination.name": destination_of(event.topic),
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.message.id": event.event_id,
            },
        )


def _below(span: Span, event: Event) -> Event:
    """The same event, whose trace goes on from `span`."""
    headers: dict[str, str] = {}
    propagate.inject(headers, set_span_in_context(span, propagate.extract(event.headers)))
    return msgspec.structs.replace(event, headers=headers)


def ids_of(event: Event) -> dict[str, Any]:
    """Return the business ids that the event carries, as attributes."""
    names = {"order.id": "orderId", "user.id": "userId"}
    return {name: event.payload[key] for name, key in names.items() if key in event.payload}
