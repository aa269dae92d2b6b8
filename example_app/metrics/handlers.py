"""Handlers of events, timed."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from example_app.events.event import Event

    Handler = Callable[[Event], None]


def timed(handlers: Mapping[str, Handler], group: str) -> Mapping[str, Handler]:
    """Return the handlers of a group, each attempt of which is in the metrics."""
    duration = metrics.get_meter("example_app.events").create_histogram(
        "messaging.process.duration", unit="s", description="Events handled"
    )
    return {topic: _timed(topic, group, it, duration) for topic, it in handlers.items()}


def _timed(topic: str, group: str, handler: Handler, duration: metrics.Histogram) -> Handler:
    attributes = {
        "messaging.consumer.group.name": group,
        "messaging.destination.name": topic,
    }

    def handle(event: Event) -> None:
        began, failed = time.perf_counter(), {}
        try:
            handler(event)
        except Exception as error:
            failed = {"error.type": type(error).__name__}
            raise
        finally:
            duration.record(time.perf_counter() - began, {**attributes, **failed})

    return handle
