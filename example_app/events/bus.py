"""What carries events between processes: the Protocols; each engine is a file of its own.

**Order.** Every event has a key. Events of one key go to one partition of one destination, and are
delivered in the order in which they were published, whatever happened in them: that an order was
paid never comes before that it was placed. Between keys there is no order.

**At least once.** An event may be in the bus twice, where a publisher did not learn that it was
taken, and may be delivered twice, where it was handled and that could not be noted. Handlers know
by the event's id, or by the order's, what they have done.

**Errors.** Every method may raise whatever its engine raises: the broker is away, the file is
locked, the disk is full. Nothing is lost then: whoever called waits, and calls again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from example_app.events.event import Event

PARTITIONS = 8
"""So many has a destination that an engine makes; no more members of a group have work."""

DEAD = ".dead."


def destination_of(topic: str) -> str:
    """Return where in the bus events of `topic` are: a topic of Kafka's, for example.

    What happens to one thing is together, as it has an order: ``order.placed`` and ``order.paid``
    are in ``order``. Dead letters have lost their place in it, and are by themselves.
    """
    return topic if DEAD in topic else topic.partition(".")[0]


class Partition(NamedTuple):
    """A part of a destination, in which events keep their order."""

    destination: str
    number: int


class Place(NamedTuple):
    """Where in the bus an event is.

    :ivar offset: grows from each event of the partition to the next, not always by one.
    """

    partition: Partition
    offset: int

    def attributes(self) -> dict[str, Any]:
        """Return what spans say of it."""
        return {
            "messaging.destination.name": self.partition.destination,
            "messaging.destination.partition.id": str(self.partition.number),
            # Under this name for every engine: the conventions know no other offset.
            "messaging.kafka.offset": self.offset,
        }


class Delivery(NamedTuple):
    """An event, and where in the bus it is: the same event may be there more than once."""

    event: Event
    place: Place


class Publisher(Protocol):
    """Takes events; once `publish` has returned they outlive any process. For many threads."""

    system: str
    """As in the semantic conventions' ``messaging.system``."""

    def publish(self, events: Sequence[Event]) -> Sequence[Place]:
        """Add `events` in this order; return where each one is.

        :raises Exception: not all were taken, or nobody knows. Some may be there: publish all of
            them again, in this order.
        """

    def close(self) -> None:
        """Let go of files and connections."""


class Progress(Protocol):
    """Knows how far groups are; for one thread."""

    def behind(self, groups: Iterable[str], topic: str) -> Mapping[str, int]:
        """Return how many events of the topic's destination each group has not handled.

        :raises Exception: nobody can tell now.
        """

    def close(self) -> None:
        """Let go of files and connections."""


class Consumer(Protocol):
    """One member of a group, which shares the partitions with the others; for one thread.

    Of a group, each event is delivered to one member, again and again until it was committed.
    """

    system: str
    group: str

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        """Return the next events of the member's partitions, of each partition in their order.

        What was returned before and not committed is returned again, and what is behind it.

        :param timeout_s: how long to wait for the first.
        """

    def commit(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these are done, and in their partitions all before them.

        :raises Exception: that is not noted, or not of all: the engine is away, or the partition
            was given to another member meanwhile, as this one has not polled for too long. What is
            not noted in the end is delivered again, to this member or to that other one.
        """

    def lag(self) -> int | None:
        """Return how many events of the member's partitions are not done; None if it cannot tell.

        It is 0 only if the last `poll` found that there are none.
        """

    def close(self) -> None:
        """Leave the group, let go of files and connections; what is not committed is not done."""
