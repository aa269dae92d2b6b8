"""How a loop is doing: kept by its thread, read by the health route, counted in metrics."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import datetime, timezone
from enum import Enum
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics

if TYPE_CHECKING:
    from collections.abc import Mapping


class Doing(Enum):
    """What a loop is doing."""

    RUNNING = "running"
    BACKING_OFF = "backing off"
    STOPPED = "stopped"


class LoopState:
    """The state of one loop; for many threads at once.

    :param attributes: which loop it is, on its metrics.
    """

    def __init__(self, attributes: Mapping[str, str]) -> None:
        self._attributes = dict(attributes)
        self._lock = threading.Lock()
        self._doing = Doing.STOPPED
        self._last_error: dict[str, str] | None = None
        self._failures_in_a_row = 0
        self._dead_letters: Counter[str] = Counter()
        self._lag: int | None = None
        meter = metrics.get_meter("example_app.events")
        self._failed = meter.create_counter(
            "example.events.failures", unit="{failure}", description="Steps of loops that raised"
        )
        self._given_up = meter.create_counter(
            "example.events.dead_letters", unit="{event}", description="Events given up"
        )
        self._backing_off = meter.create_up_down_counter(
            "example.events.backing_off", unit="{loop}", description="Loops that wait after errors"
        )
        self._behind = meter.create_up_down_counter(
            "example.events.lag", unit="{event}", description="Events published and not yet handled"
        )

    @property
    def doing(self) -> Doing:
        """What the loop is doing."""
        return self._doing

    def running(self) -> None:
        """Note that a step has worked."""
        self._change(Doing.RUNNING)

    def stopped(self) -> None:
        """Note that the loop has ended."""
        self._change(Doing.STOPPED)

    def backing_off(self, what: str, error: BaseException) -> None:
        """Note that a step has raised, and that the loop waits before it takes it again.

        :param what: the step; anybody may read it, as also the error's type, but not its text.
        """
        with self._lock:
            self._failures_in_a_row += 1
            self._last_error = {
                "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
                "what": what,
                "error": type(error).__name__,
            }
        self._failed.add(1, {**self._attributes, "error.type": type(error).__name__})
        self._change(Doing.BACKING_OFF)

    def gave_up(self, topic: str) -> None:
        """Note that an event went to the dead-letter topic `topic`."""
        with self._lock:
            self._dead_letters[topic] += 1
        self._given_up.add(1, {**self._attributes, "messaging.destination.name": topic})

    def lags(self, events: int | None) -> None:
        """Note how many events are not handled yet; None where nobody knows."""
        with self._lock:
            more, self._lag = (events or 0) - (self._lag or 0), events
        if more:
            self._behind.add(more, self._attributes)

    def shown(self) -> dict[str, Any]:
        """Return what the health route shows, as what JSON can hold."""
        with self._lock:
            return {
                "state": self._doing.value,
                "failuresInARow": self._failures_in_a_row,
                "lastError": self._last_error,
                "deadLetters": dict(self._dead_letters),
                "lag": self._lag,
            }

    def _change(self, doing: Doing) -> None:
        with self._lock:
            before, self._doing = self._doing, doing
            if doing is Doing.RUNNING:
                self._failures_in_a_row = 0
        waits = (doing is Doing.BACKING_OFF) - (before is Doing.BACKING_OFF)
        if waits:
            self._backing_off.add(waits, self._attributes)
