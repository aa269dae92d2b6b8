"""The loop that hands events to their handlers, each in the trace that its headers name."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from opentelemetry import context, propagate
from opentelemetry.trace import SpanKind

from example_app.events.outbox import ids_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from opentelemetry.trace import Tracer

    from example_app.events.bus import Consumer, Delivery
    from example_app.events.event import Event

    Handler = Callable[[Event], None]

_POLL_S = 0.5
_FIRST_RETRY_S, _LAST_RETRY_S = 0.1, 2.0
_log = logging.getLogger(__name__)


class EventLoop:
    """Handles events on a thread of its own, one after the other.

    An event whose handler raises is tried again until it succeeds, and holds up those behind it:
    none is lost. Handlers must take an event they have seen before for done. The thread survives
    whatever the engine raises: it waits and asks again.

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
        polled: list[Delivery] = []

        def poll() -> None:
            polled[:] = self._consumer.poll(_POLL_S)

        while self._until_done("polling", poll):
            for delivery in polled:
                event = delivery.event
                handler = self._handlers.get(event.topic)
                if handler is not None and not self._until_done(
                    f"{event.topic} of {event.key}", partial(self._handle, event, handler)
                ):
                    return
                if not self._until_done("committing", partial(self._consumer.commit, delivery)):
                    return

    def _until_done(self, what: str, step: Callable[[], None]) -> bool:
        """Take `step`, again while it raises; False if told to stop before that worked."""
        pause = _FIRST_RETRY_S
        while not self._stop.is_set():
            try:
                step()
            except Exception as error:  # noqa: BLE001 - whatever it is, no event must be lost
                _log.warning("%s is tried again: %s: %s", what, type(error).__name__, error)
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
