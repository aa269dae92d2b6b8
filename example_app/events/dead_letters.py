"""Dead letters: events that a group has given up, each in a topic of its own, and replaying them.

A topic holds what one group could not handle, as in ``order.placed.dead.payments``: other groups
have handled the event. So one that is replayed says whom it is for, and the others pass it over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import msgspec

from example_app.events.bus import DEAD
from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from example_app.events.bus import Consumer, Publisher
    from example_app.events.event import Event

_ONLY_GROUP = "replayed-for"
_ERROR, _ATTEMPTS = "dead-letter-error", "dead-letter-attempts"
_POLL_S = 0.1
_KNOWN_S = 30.0
"""Seconds to wait for the first event, and for the bus to say that there is none."""


def topic_of(topic: str, group: str) -> str:
    """Return the topic for the events of `topic` that `group` gives up."""
    return f"{topic}{DEAD}{group}"


def dead_letter(event: Event, group: str, error: Exception, attempts: int) -> Event:
    """Return `event` as it is kept after so many attempts, the last of which raised `error`."""
    headers = {**event.headers, _ERROR: type(error).__name__, _ATTEMPTS: str(attempts)}
    return msgspec.structs.replace(event, topic=topic_of(event.topic, group), headers=headers)


def is_for(event: Event, group: str) -> bool:
    """Whether `group` is to handle the event: every group, unless it was replayed for one."""
    return event.headers.get(_ONLY_GROUP, group) == group


def replay(topic: str, consumer: Consumer, publisher: Publisher) -> int:
    """Publish the dead letters of `topic` again for the group that has given them up.

    Killed half-way, it publishes some twice when it is called again, as every publisher may.

    :param consumer: of a group of its own, which notes what was replayed before.
    :returns: the number of events.
    :raises ValueError: `topic` is not one of dead letters.
    :raises TemporarilyUnavailable: the bus does not tell what there is.
    """
    origin, dead, group = topic.rpartition(DEAD)
    if not (origin and dead and group):
        raise ValueError(f"{topic} is no dead-letter topic, such as {topic_of('TOPIC', 'GROUP')}")
    count = 0
    last = time.monotonic() + _KNOWN_S
    while True:
        deliveries = consumer.poll(_POLL_S)
        if deliveries:
            found = [it.event for it in deliveries if it.event.topic == topic]
            publisher.publish([_alive(event, origin, group) for event in found])
            consumer.commit(deliveries)
            count += len(found)
        elif consumer.lag() == 0:
            return count
        elif count == 0 and time.monotonic() > last:
            raise TemporarilyUnavailable(f"nobody tells within {_KNOWN_S:.0f} s what is in {topic}")


def _alive(event: Event, topic: str, group: str) -> Event:
    kept = {name: it for name, it in event.headers.items() if name not in {_ERROR, _ATTEMPTS}}
    return msgspec.structs.replace(event, topic=topic, headers={**kept, _ONLY_GROUP: group})
