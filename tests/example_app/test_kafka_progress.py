"""How far groups are, as real brokers say: what they are asked, and what is left open."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import confluent_kafka
import psutil
import pytest
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from example_app.bootstrap import ORDERS, SERVICES, Surroundings
from example_app.engines import Engines
from example_app.events import kafka_progress
from example_app.events.bus import PARTITIONS, Place
from example_app.events.event import new_event
from example_app.events.kafka_progress import KafkaProgress
from example_app.events.kafka_settings import KafkaSettings
from example_app.failures import BusUnavailable
from tests.example_app.programs import until

pytestmark = pytest.mark.slow

GROUPS = ("payments", "fulfilment")


@pytest.fixture
def topic() -> str:
    return f"t{uuid.uuid4().hex}.placed"


def publish(url: str, topic: str, count: int) -> Place:
    """Publish events of one key; return where the first one is."""
    with closing(Engines(bus=url).publisher(Path())) as publisher:
        return publisher.publish([new_event(topic, "K", {}) for _ in range(count)])[0]


@contextmanager
def known(url: str, topic: str) -> Iterator[KafkaProgress]:
    """What asks the broker, from when it knows: a new one first makes its notes of groups."""

    def is_known() -> bool:
        with suppress(BusUnavailable):
            return bool(progress.behind(GROUPS, topic))
        return False

    with closing(KafkaProgress(KafkaSettings(url))) as progress:
        until(is_known, lambda: "the broker does not say how far groups are")
        yield progress


def connections(url: str) -> set[Any]:
    """This process's connections to the broker."""
    port = urlsplit(url).port
    found = psutil.Process().net_connections("tcp")
    return {it.laddr for it in found if it.raddr and it.raddr.port == port}


def test_the_ends_are_asked_for_once_whatever_the_number_of_groups(
    kafka_url: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    class Noting(confluent_kafka.Consumer):
        def get_watermark_offsets(
            self, partition: TopicPartition, timeout: float = -1, cached: bool = False
        ) -> tuple[int, int]:
            asked.append(partition.partition)
            return super().get_watermark_offsets(partition, timeout, cached)

    monkeypatch.setattr(kafka_progress, "Consumer", Noting)
    publish(kafka_url, topic, 3)
    with known(kafka_url, topic) as progress:
        asked.clear()
        assert progress.behind(GROUPS, topic) == dict.fromkeys(GROUPS, 3)
    assert asked == [*range(PARTITIONS)]


def test_events_that_are_not_kept_any_more_do_not_wait(kafka_url: str, topic: str) -> None:
    (name, number), _ = publish(kafka_url, topic, 5)
    admin = AdminClient({"bootstrap.servers": urlsplit(kafka_url).netloc})
    (deleted,) = admin.delete_records([TopicPartition(name, number, 2)]).values()
    deleted.result(30)
    with known(kafka_url, topic) as progress:
        assert progress.behind(GROUPS, topic) == dict.fromkeys(GROUPS, 3)


def test_it_closes_its_connections(kafka_url: str, topic: str) -> None:
    publish(kafka_url, topic, 1)
    before = connections(kafka_url)
    with known(kafka_url, topic) as progress:
        assert progress.behind(GROUPS, topic)
        assert connections(kafka_url) - before
    until(lambda: not connections(kafka_url) - before, lambda: "some are open")


def test_the_order_service_closes_them_as_it_ends(kafka_url: str, tmp_path: Path) -> None:
    before = connections(kafka_url)
    around = Surroundings(tmp_path, {}, b"key", engines=Engines(bus=kafka_url))
    with SERVICES[ORDERS](around) as app:
        until(lambda: bool(connections(kafka_url) - before), lambda: "it asks nobody")
    del app
    until(lambda: not connections(kafka_url) - before, lambda: "some are open")
