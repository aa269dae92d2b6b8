"""Apache Kafka, or what speaks its protocol, as the bus.

A destination is a topic of Kafka's, keyed by the event's key, so that what happens to one order is
in one partition.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from example_app.events.bus import DEAD, PARTITIONS, Delivery, Partition, Place, destination_of
from example_app.events.kafka_record import event_of, headers, place_of
from example_app.failures import BusUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from confluent_kafka import Message

    from example_app.events.event import Event
    from example_app.events.kafka_settings import KafkaSettings

_BATCH = 50
_ACKNOWLEDGED_S = 4.0
"""So long may it take until the brokers have an event: shorter than a service may take to stop."""

_SERVE_S = 0.01
_ASK_S = 1.0
"""So long is waited for an answer of brokers that did not answer before."""

_LOST = {KafkaError._FATAL, KafkaError.FENCED_INSTANCE_ID}
"""This consumer can do nothing more, but another one can."""

_REBALANCING = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION}
QUIET = {"log_level": 2}
"""It would tell of each attempt to reach a broker; `error_cb` tells what is wrong."""

_log = logging.getLogger(__name__)


class KafkaPublisher:
    """A `Publisher` to Kafka: idempotent, and acknowledged by all replicas in sync.

    It makes the topics that are not there.
    """

    system = "kafka"

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._topics = _Topics(settings)
        self._lock = threading.Lock()
        self._current: Producer | None = None
        self._in_doubt = False

    def publish(self, events: Sequence[Event]) -> Sequence[Place]:
        """Add `events` in this order; return where each one is.

        :raises BusUnavailable: not all were acknowledged in time. Some may be there.
        """
        with named():
            self._topics.make(destination_of(event.topic) for event in events)
            producer = self._producer()
            if self._in_doubt:
                # Not to wait as long for each event that is published meanwhile.
                _ask(producer)
                self._in_doubt = False
            sent = _Sent(len(events))
            for number, event in enumerate(events):
                producer.produce(
                    destination_of(event.topic),
                    key=event.key.encode(),
                    value=msgspec.json.encode(event.payload),
                    headers=headers(event),
                    on_delivery=partial(sent.note, number),
                )
            while sent.missing:
                producer.poll(_SERVE_S)
            return sent.places()

    def _producer(self) -> Producer:
        with self._lock:
            if self._current is None:
                self._current = Producer(
                    {
                        "enable.idempotence": True,
                        "acks": "all",
                        # As Kafka's own clients in Java do.
                        "partitioner": "murmur2_random",
                        "delivery.timeout.ms": int(1000 * _ACKNOWLEDGED_S),
                        "linger.ms": 1,
                        **self._settings.common(),
                        **QUIET,
                        "error_cb": self._note_error,
                    },
                    logger=_log,
                )
            return self._current

    def _note_error(self, error: KafkaError) -> None:
        self._in_doubt = True
        if error.fatal():
            # The brokers know its sequence no more: only a new producer can go on.
            _log.warning("a new producer is made: %s", error.str())
            self._current = None

    def close(self) -> None:
        """Close the connections."""
        if self._current is not None:
            self._current.flush(_ACKNOWLEDGED_S)


class _Sent:
    """What comes of the events that were handed to a producer.

    :ivar missing: the number of those of which nobody knows yet.
    """

    def __init__(self, count: int) -> None:
        self.missing = count
        self._places: list[Place | None] = [None] * count
        self._error: KafkaError | None = None
        self._lock = threading.Lock()

    def note(self, number: int, error: KafkaError | None, message: Message) -> None:
        """Note what came of one event, on whatever thread serves the producer."""
        with self._lock:
            if error is None:
                self._places[number] = place_of(message)
            self._error = self._error or error
            self.missing -= 1

    def places(self) -> Sequence[Place]:
        """Return where each event is, or raise the first error."""
        if self._error is not None:
            raise KafkaException(self._error)
        return [place for place in self._places if place is not None]


class KafkaConsumer:
    """A `Consumer` of Kafka's.

    Partitions come and go with the members of the group, and only inside `poll`, between batches:
    what was handled is committed by then. It joins the group with its first `poll`.

    :param topics: of the events it is to see; it may see others too.
    :param instance: what makes it the same member when it is started again (``group.instance.id``),
        with the same partitions; no two that live may have one. Such a member does not leave.
    """

    system = "kafka"

    def __init__(
        self, settings: KafkaSettings, group: str, topics: Iterable[str], instance: str = ""
    ) -> None:
        self.group = group
        self._destinations = sorted({destination_of(topic) for topic in topics})
        self._topics = _Topics(settings)
        self._configuration = {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "enable.partition.eof": True,
            # So long a commit may take while no broker answers.
            "socket.timeout.ms": int(1000 * _ACKNOWLEDGED_S),
            **({"group.instance.id": instance} if instance else {}),
            **settings.of_consumers(),
            **QUIET,
            "error_cb": self._note_error,
        }
        self._consumer = Consumer(self._configuration, logger=_log)
        self._is_lost = False
        self._has_joined = False
        self._in_doubt = False
        # Of what was delivered: the first that is not done, and the first not delivered.
        self._open: dict[Partition, tuple[int, int]] = {}
        # What is done and not noted: the first offset behind it.
        self._late: dict[Partition, int] = {}
        self._at_end: set[Partition] = set()

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        """Return the next events of the member's partitions; those not committed once more.

        :raises BusUnavailable: no broker answers, or the topics are not there.
        """
        with named(), self._noting_loss():
            if self._is_lost:
                self._begin_anew()
            self._join()
            if not self._in_doubt:
                with suppress(KafkaException):
                    self._note_late()
            self._go_back()
            found: list[Delivery] = []
            deadline = time.monotonic() + timeout_s
            while len(found) < _BATCH:
                wait_s = 0.0 if found else max(0.0, deadline - time.monotonic())
                message = self._consumer.poll(wait_s)
                if message is None:
                    break
                found += self._delivery(message)
            if self._in_doubt and not found:
                # It tries again and again by itself, and tells nobody how that goes.
                _ask(self._consumer)
                self._in_doubt = False
            return found

    @contextmanager
    def _noting_loss(self) -> Iterator[None]:
        try:
            yield
        except KafkaException as error:
            self._is_lost = self._is_lost or error.args[0].code() in _LOST
            raise

    def _begin_anew(self) -> None:
        """Be another consumer, which begins with what was committed last.

        Brokers that were killed may not know who they have let into the group last, and take the
        member for one that was replaced.
        """
        self._consumer.close()
        self._consumer = Consumer(self._configuration, logger=_log)
        self._is_lost = self._has_joined = False
        for kept in (self._open, self._late, self._at_end):
            kept.clear()

    def _join(self) -> None:
        if not self._has_joined:
            self._topics.make(it for it in self._destinations if DEAD not in it)
            self._consumer.subscribe(
                self._destinations, on_revoke=self._forget, on_lost=self._forget
            )
            self._has_joined = True

    def _go_back(self) -> None:
        """Have delivered again what was not committed."""
        try:
            for partition, (first, _) in self._open.items():
                self._consumer.seek(TopicPartition(*partition, first))
        except KafkaException:
            # It may not be ours any more. Whoever joins begins with what was committed last.
            self._has_joined = False
            self._consumer.unsubscribe()
            self._late.clear()
            raise
        finally:
            self._open.clear()

    def _delivery(self, message: Message) -> list[Delivery]:
        error = message.error()
        place = place_of(message)
        if error is not None:
            if error.code() != KafkaError._PARTITION_EOF:
                raise KafkaException(error)
            self._at_end.add(place.partition)
            return []
        self._at_end.discard(place.partition)
        first, _ = self._open.get(place.partition, (place.offset, 0))
        self._open[place.partition] = first, place.offset + 1
        try:
            return [Delivery(event_of(message), place)]
        except (KeyError, ValueError, msgspec.MsgspecError) as problem:
            # To try again would not help, and Kafka has it for whoever wants to look.
            _log.error("passed over, as it is no event: %s: %r", place, problem)
            return []

    def commit(self, deliveries: Sequence[Delivery]) -> None:
        """Note that these are done, and in their partitions all before them.

        While members come and go, brokers take it only with a later `poll`; until then they are
        done all the same, as long as their partition is this member's.

        :raises BusUnavailable: no broker answers, or the partition is another member's by now.
        """
        for _, (partition, offset) in deliveries:
            done = max(self._late.get(partition, 0), offset + 1)
            self._late[partition] = done
            _, last = self._open.pop(partition, (done, done))
            if done < last:
                self._open[partition] = done, last
        with named(), self._noting_loss():
            if self._in_doubt:
                # To commit would wait for longer.
                _ask(self._consumer)
            try:
                self._note_late()
            except KafkaException as error:
                if error.args[0].code() not in _REBALANCING:
                    raise

    def _note_late(self) -> None:
        if self._late:
            offsets = [TopicPartition(*partition, done) for partition, done in self._late.items()]
            noted = self._consumer.commit(offsets=offsets, asynchronous=False) or []
            errors = [it.error for it in noted if it.error is not None]
            if errors:
                raise KafkaException(errors[0])
            self._late.clear()

    def lag(self) -> int | None:
        """Return how many events of the member's partitions are not done; None if unknown."""
        assigned = self._consumer.assignment()
        total = 0
        for at in self._consumer.position(assigned):
            partition = Partition(at.topic, at.partition)
            first, last = self._open.get(partition, (at.offset, at.offset))
            if partition in self._at_end:
                total += last - first
                continue
            _, end = self._consumer.get_watermark_offsets(at, cached=True)
            if min(first, end) < 0:
                return None
            total += end - first
        return total if assigned else None

    def _note_error(self, error: KafkaError) -> None:
        _log.info("it is asked whether it is there: %s", error.str())
        self._in_doubt = True

    def _forget(self, _consumer: Consumer, partitions: Iterable[TopicPartition]) -> None:
        for it in partitions:
            partition = Partition(it.topic, it.partition)
            self._open.pop(partition, None)
            self._late.pop(partition, None)
            self._at_end.discard(partition)

    def close(self) -> None:
        """Leave the group."""
        if not self._in_doubt:
            with suppress(KafkaException):
                self._note_late()
        self._consumer.close()


class _Topics:
    """Makes topics that are not there, with as many replicas as the brokers make by themselves."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._there: set[str] = set()

    def make(self, names: Iterable[str]) -> None:
        """Return once these are there."""
        wanted = {*names} - self._there
        if not wanted:
            return
        admin = AdminClient({**self._settings.common(), **QUIET}, logger=_log)
        missing = wanted - {*admin.list_topics(timeout=_ACKNOWLEDGED_S).topics}
        if missing:
            new = [NewTopic(name, PARTITIONS) for name in sorted(missing)]
            for made in admin.create_topics(new, request_timeout=_ACKNOWLEDGED_S).values():
                try:
                    made.result()
                except KafkaException as error:
                    # Another process may have been faster.
                    if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                        raise
        self._there |= wanted


def _ask(client: Consumer | Producer) -> None:
    """Return if a broker answers; raises `KafkaException` otherwise."""
    client.list_topics(timeout=_ASK_S)


@contextmanager
def named() -> Iterator[None]:
    """Raise what Kafka's client raises as `BusUnavailable`."""
    try:
        yield
    except (KafkaException, BufferError) as error:
        what = error.args[0]
        text = what.str() if isinstance(what, KafkaError) else str(what)
        raise BusUnavailable(f"Kafka: {text}") from error
