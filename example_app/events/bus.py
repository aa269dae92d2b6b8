"""What carries events between processes: the Protocols; each engine is a file of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from example_app.events.event import Event


class Publisher(Protocol):
    """Takes events; once `publish` has returned they outlive any process."""

    system: str
    """As in the semantic conventions' ``messaging.system``."""

    def publish(self, events: Sequence[Event]) -> None:
        """Add `events` in this order, all or none."""

    def close(self) -> None:
        """Let go of files and connections."""


@dataclass(frozen=True)
class Delivery:
    """An event, and where in the bus it is: the same event may be there more than once.

    :ivar position: the engine's own.
    """

    event: Event
    position: Any


class Consumer(Protocol):
    """One group's view of the events; each is delivered at least once, until it was committed.

    Events of one key are delivered in their order. Every method may raise whatever the engine
    raises: nothing is lost then, and the caller polls again.
    """

    system: str
    group: str

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        """Return the events after the last one committed, in their order.

        What was returned before and not committed is returned again.

        :param timeout_s: how long to wait for the first.
        """

    def commit(self, delivery: Delivery) -> None:
        """Note that `delivery` and all before it are done; if it raises, that is not noted."""

    def close(self) -> None:
        """Let go of files and connections."""
