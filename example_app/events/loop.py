"""The loop that hands events to their handlers, each in the trace that its headers name."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from opentelemetry import context, propagate
from opentelemetry.trace import SpanKind

from example_app.events.dead_letters import dead_letter, is_for
from example_app.events.outbox import ids_of
from example_app.events.state import LoopState
from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from opentelemetry.trace import Tracer

    from example_app.events.bus import Consumer, Delivery, Partition, Place, Publisher
    from example_app.events.event import Event

    Handler = Callable[[Event], None]

_POLL_S = 0.5
_COMMIT_EVERY_S = 0.5
_LOOK_AT_LAG_EVERY_S = 1.0
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
    """Handles the events of one member of a group on a thread of its own, one after the other.

    What was handled is committed after each batch, and twice a second: a commit for each event
    would cost more than many a handler. An event whose handler raises is polled and tried again,
    and holds up those behind it in its partition; after so many attempts it goes to a dead-letter
    topic (`dead_letters`). Polling goes on meanwhile, as brokers take members who do not poll for
    dead. Handlers must take an event they have seen before for done. The thread survives whatever
    the engine raises: it waits and polls again.

    :param consumer: closed at the end.
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
        self._failing: dict[Partition, tuple[Place, int]] = {}
        self._looked_at_lag = 0.0
        self.state = LoopState({"messaging.consumer.group.name": consumer.group})

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for as long as the block lasts; the event under way is finished, or left."""
        with together([self]):
            yield

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                try:
                    self._handle_some()
                except Exception as error:  # noqa: BLE001 - whatever it is, no event must be lost
                    self._back_off(error)
        finally:
            self.state.stopped()
            # Here, so that all members of a group leave at the same time.
            self._consumer.close()

    def _handle_some(self) -> None:
        self._doing = "polling"
        deliveries = self._consumer.poll(_POLL_S)
        self._look_at_lag()
        held_up: dict[Partition, tuple[str, Exception]] = {}
        done: list[Delivery] = []
        due = time.monotonic() + _COMMIT_EVERY_S
        for delivery in deliveries:
            if self._stop.is_set():
                break
            if delivery.place.partition in held_up:
                continue
            try:
                self._settle(delivery)
            except Exception as error:  # noqa: BLE001 - those of other partitions are not held up
                held_up[delivery.place.partition] = self._doing, error
                continue
            done.append(delivery)
            if time.monotonic() > due:
                self._commit(done)
                done, due = [], time.monotonic() + _COMMIT_EVERY_S
        self._commit(done)
        if held_up:
            self._doing, first = next(iter(held_up.values()))
            raise first
        self._worked()

    def _commit(self, done: Sequence[Delivery]) -> None:
        if done:
            self._doing = "committing"
            # What is not noted as done is polled again, and handled again.
            self._consumer.commit(done)

    def _look_at_lag(self) -> None:
        now = time.monotonic()
        if now > self._looked_at_lag + _LOOK_AT_LAG_EVERY_S:
            self._looked_at_lag = now
            self.state.lags(self._consumer.lag())

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
            self._handle(delivery, handler)
        except Exception as error:
            attempts = self._attempts(delivery.place)
            if attempts < self._bound(error):
                raise
            _log.exception("%s of %s is given up", event.topic, event.key)
            letter = dead_letter(event, self._consumer.group, error, attempts)
            self._doing = f"publishing to {letter.topic}"
            self._given_up.publish([letter])
            self.state.gave_up(letter.topic)

    def _attempts(self, place: Place) -> int:
        # Of a partition only the first event that is not done can be one that fails.
        last, before = self._failing.get(place.partition, (place, 0))
        attempts = before + 1 if last == place else 1
        self._failing[place.partition] = place, attempts
        return attempts

    def _bound(self, error: Exception) -> int:
        waiting_helps = isinstance(error, TemporarilyUnavailable)
        return self._bounds.while_unavailable if waiting_helps else self._bounds.attempts

    def _handle(self, delivery: Delivery, handler: Handler) -> None:
        event = delivery.event
        origin = propagate.extract(event.headers)
        token = context.attach(origin)
        try:
            with self._tracer.start_as_current_span(
                f"process {event.topic}",
                kind=SpanKind.CONSUMER,
                attributes={
                    **ids_of(event),
                    "messaging.system": self._consumer.system,
                    **delivery.place.attributes(),
                    "messaging.operation.name": "process",
                    "messaging.operation.type": "process",
                    "messaging.consumer.group.name": self._consumer.group,
                    "messaging.message.id": event.event_id,
                },
            ):
                handler(event)
        finally:
            context.detach(token)


@contextmanager
def together(loops: Sequence[EventLoop]) -> Iterator[None]:
    """Run loops for as long as the block lasts; none waits for another one to stop."""
    threads = [threading.Thread(target=it._run, name="events") for it in loops]
    for loop in loops:
        loop.state.running()
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for loop in loops:
            loop._stop.set()
        for thread in threads:
            thread.join()
