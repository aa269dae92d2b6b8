"""The loop that hands events to their handlers, each in the trace that its headers name."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import context, propagate
from opentelemetry.trace import SpanKind

from example_app.events.outbox import ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Tracer

    from example_app.events.bus import Consumer
    from example_app.events.event import Event

    Handler = Callable[[Event], None]

_POLL_S = 0.5
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class EventLoop:
    """Handles events on a thread of its own, one after the other.

    An event whose handler raises is tried again until it succeeds, and holds up those behind it:
    none is lost. Handlers must take an event they have seen before for done.

    :param handlers: by topic; events of other topics are passed over.
    """

    def __init__(self, consumer: Consumer, handlers: Mapping[str, Handler], tracer: Tracer) -> None:
        self._consumer = consumer
        self._handlers = handlers
        self._tracer = tracer
        self._stop = threading.Event()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it for as long as the block lasts; the event under way is finished, or left."""
        thread = threading.Thread(target=self._run, name="events")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            for delivery in self._consumer.poll(_POLL_S):
                handler = self._handlers.get(delivery.event.topic)
                if handler is not None and not self._until_done(delivery.event, handler):
                    return
                self._consumer.commit(delivery)

    def _until_done(self, event: Event, handler: Handler) -> bool:
        """Handle `event`; False if told to stop before that worked."""
        pause = _FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                self._handle(event, handler)
            except Exception as error:  # noqa: BLE001 - whatever it is, the event must not be lost
                _log.warning("%s of %s is tried again: %s", event.topic, event.key, error)
                self._stop.wait(pause)
                pause = min(2 * pause, _LAST_RETRY_S)
            else:
                return True
        return False

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
