"""How far groups are in Kafka's topics, as its brokers say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaException, TopicPartition

from example_app.events.bus import PARTITIONS, destination_of
from example_app.events.kafka_bus import QUIET, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from example_app.events.kafka_settings import KafkaSettings

_ANSWER_S = 1.0
_log = logging.getLogger(__name__)


class KafkaProgress:
    """A `Progress` that asks the brokers."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        # Each knows what its own group has committed. None of them joins it.
        self._consumers: dict[str, Consumer] = {}

    def behind(self, groups: Iterable[str], topic: str) -> Mapping[str, int]:
        """Return how many events of the topic's destination each group has not handled.

        :raises BusUnavailable: no broker answers, or nothing was ever published there.
        """
        name = destination_of(topic)
        partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
        with named():
            committed = {
                group: self._consumer_of(group).committed(partitions, timeout=_ANSWER_S)
                for group in groups
            }
            # Only now: no group has committed more than there is.
            bounds = self._bounds(partitions)
            return {group: _not_done(done, bounds) for group, done in committed.items()}

    def _bounds(self, partitions: Iterable[TopicPartition]) -> Sequence[tuple[int, int]]:
        """Of each partition, the offset of the first event that is kept, and of the next to come.

        Not from an `AdminClient`: librdkafka 2.16 ends the process with a failed assertion
        (``rd_kafka_enq_once_del_source_return``) where a broker dies while its ``list_offsets``
        runs out of time.
        """
        # Any of them knows.
        consumer = next(iter(self._consumers.values()))
        return [consumer.get_watermark_offsets(it, timeout=_ANSWER_S) for it in partitions]

    def _consumer_of(self, group: str) -> Consumer:
        found = self._consumers.get(group)
        if found is None:
            configured = {**self._settings.common(), **QUIET, "group.id": group}
            found = self._consumers[group] = Consumer(configured, logger=_log)
        return found

    def close(self) -> None:
        """Close the connections."""
        for consumer in self._consumers.values():
            consumer.close()
        self._consumers.clear()


def _not_done(committed: Sequence[TopicPartition], bounds: Sequence[tuple[int, int]]) -> int:
    count = 0
    for done, (first, end) in zip(committed, bounds, strict=True):
        if done.error is not None:
            raise KafkaException(done.error)
        # A group that has committed nothing in a partition begins with its first event.
        count += end - max(done.offset, first)
    return count
