"""How far groups are in Kafka's topics, as its brokers say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]

from example_app.events.bus import PARTITIONS, destination_of
from example_app.events.kafka_bus import QUIET, named

if TYPE_CHECKING:
    from example_app.events.kafka_settings import KafkaSettings

_ANSWER_S = 1.0
_log = logging.getLogger(__name__)


class KafkaProgress:
    """A `Progress` that asks the brokers."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._admin = AdminClient({**settings.common(), **QUIET}, logger=_log)

    def behind(self, group: str, topic: str) -> int:
        """Return how many events of the topic's destination the group has not handled.

        :raises BusUnavailable: no broker answers, or nothing was ever published there.
        """
        name = destination_of(topic)
        partitions = [TopicPartition(name, number) for number in range(PARTITIONS)]
        with named():
            asked = self._admin.list_consumer_group_offsets(
                [ConsumerGroupTopicPartitions(group, partitions)], request_timeout=_ANSWER_S
            )
            latest = OffsetSpec.latest()  # type: ignore[no-untyped-call] # it has no types
            ends = self._admin.list_offsets(
                dict.fromkeys(partitions, latest), request_timeout=_ANSWER_S
            )
            done = {it.partition: it.offset for it in asked[group].result().topic_partitions}
            end_of = {it.partition: found.result().offset for it, found in ends.items()}
        # A group that has committed nothing in a partition begins with its first event.
        return sum(end - max(done.get(number, 0), 0) for number, end in end_of.items())
