"""How far groups are in Kafka's topics, as its brokers say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, TopicPartition

from example_app.events.bus import PARTITIONS, destination_of
from example_app.events.kafka_bus import QUIET, named

if TYPE_CHECKING:
    from example_app.events.kafka_settings import KafkaSettings

_ANSWER_S = 1.0
_log = logging.getLogger(__name__)


class KafkaProgress:
    """A `Progress` that asks the brokers."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._asking: dict[str, Consumer] = {}

    def behind(self, group: str, topic: str) -> int:
        """Return how many events of the topic's destination the group has not handled.

        :raises BusUnavailable: no broker answers, or nothing was ever published there.
        """
        name = destination_of(topic)
        partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
        with named():
            asking = self._consumer_of(group)
            waiting = 0
            for done in asking.committed(partitions, timeout=_ANSWER_S):
                _, end = asking.get_watermark_offsets(done, timeout=_ANSWER_S)
                # A group that has committed nothing in a partition begins with its first event.
                waiting += end - max(done.offset, 0)
        return waiting

    def _consumer_of(self, group: str) -> Consumer:
        """A consumer that asks for a group and never joins it.

        Not an `AdminClient`: librdkafka 2.16 ends the process with a failed assertion
        (``rd_kafka_enq_once_del_source_return``) where a broker dies while its ``list_offsets``
        runs out of time.
        """
        found = self._asking.get(group)
        if found is None:
            configured = {**self._settings.common(), **QUIET, "group.id": group}
            found = self._asking[group] = Consumer(configured, logger=_log)
        return found
