"""The loop that hands events to their handlers, each in the trace that its headers name."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from opentelemetry import context, propagate
from opentelemetry.trace import SpanKind

from example_app.events.dead_letters import dead_letter, is_for
from example_app.events.outbox import ids_of
from example_app.events.state import LoopState
from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Tracer

    from example_app.events.bus import Consumer, Delivery, Publisher
    from example_app.events.event import Event

    Handler = Callable[[Event], None]

_POLL_S = 0.5
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Bounds:
    """How often an event is tried before it is given up.

    :ivar attempts: where its handler raises; ten take about ten seconds.
    :ivar while_unavailable: where it raises `TemporarilyUnavailable`, which is no fault of the
        event's. An hour at two seconds each: an event that brings a neighbour down looks like that
        too, and must not hold up the others for ever.
    """

    attempts: int = 10
    while_unavailable: int = 1800


class EventLoop:
    """Handles events on a thread of its own, one after the other.

    An event whose handler raises is polled and tried again, and holds up those behind it; after so
    many attempts it goes to a dead-letter topic (`dead_letters`). Polling goes on meanwhile, as
    brokers take members who do not poll for dead. Handlers must take an event they have seen before
    for done. The thread survives whatever the engine raises: it waits and polls again.

    :param handlers: by topic; events of other topics are passed over.
    :param given_up: takes the dead letters.
    :ivar state: how the loop is doing.
    """

    def __init__(
        self,
        consumer: Consumer,
        handlers: Mapping[str, Handler],
        tracer: Tracer,
        given_up: Publisher,
        bounds: Bounds = Bounds(),
    ) -> None:
        self._consumer = consumer
        self._handlers = handlers
        self._tracer = tracer
        self._given_up = given_up
        self._bounds = bounds
        self._stop = threading.Event()
        self._doing = "polling"
        self._pause_s = _FIRST_RETRY_S
        self._failing: Any = None
        self._failures = 0
        self.state = LoopState({"messaging.consumer.group.name": consumer.group})

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for as long as the block lasts; the event under way is finished, or left."""
        thread = threading.Thread(target=self._run, name="events")
        self.state.running()
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._handle_some()
                except Exception as error:  # noqa: BLE001 - whatever it is, no event must be lost
                    self._back_off(error)
        finally:
            self.state.stopped()

    def _handle_some(self) -> None:
        self._doing = "polling"
        deliveries = self._consumer.poll(_POLL_S)
        if not deliveries:
            self._worked()
        for delivery in deliveries:
            if self._stop.is_set():
                return
            self._settle(delivery)
            self._doing = "committing"
            # What is not noted as done is polled again, and handled again.
            self._consumer.commit(delivery)
            self._worked()

    def _worked(self) -> None:
        self._pause_s = _FIRST_RETRY_S
        self.state.running()

    def _back_off(self, error: Exception) -> None:
        _log.warning("%s is tried again: %s: %s", self._doing, type(error).__name__, error)
        self.state.backing_off(self._doing, error)
        self._stop.wait(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LAST_RETRY_S)

    def _settle(self, delivery: Delivery) -> None:
        """Handle an event, or give it up if that was tried often enough; else raise."""
        event = delivery.event
        handler = self._handlers.get(event.topic)
        if handler is None or not is_for(event, self._consumer.group):
            return
        self._doing = f"handling {event.topic}"
        try:
            self._handle(event, handler)
        except Exception as error:
            if not self._is_hopeless(delivery, error):
                raise
            _log.exception("%s of %s is given up", event.topic, event.key)
            letter = dead_letter(event, self._consumer.group, error, self._failures)
            self._doing = f"publishing to {letter.topic}"
            self._given_up.publish([letter])
            self.state.gave_up(letter.topic)

    def _is_hopeless(self, delivery: Delivery, error: Exception) -> bool:
        # Only the first event that is not done can be one that fails, so one number is enough.
        before = self._failures if self._failing == delivery.position else 0
        self._failing, self._failures = delivery.position, before + 1
        waiting_helps = isinstance(error, TemporarilyUnavailable)
        bound = self._bounds.while_unavailable if waiting_helps else self._bounds.attempts
        return self._failures >= bound

    def _handle(self, event: Event, handler: Handler) -> None:
        origin = propagate.extract(event.headers)
        token = context.attach(origin)
        try:
            with self._tracer.start_as_current_span(
                f"process {event.topic}",
                kind=SpanKind.CONSUMER,
                attributes={
                    **ids_of(event),
                    "messaging.system": self._consumer.system,
                    "messaging.destination.name": event.topic,
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.consumer.group.name": self._consumer.group,
                    "messaging.message.id": event.event_id,
                },
            ):
                handler(event)
        finally:
            context.detach(token)
