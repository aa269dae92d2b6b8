"""What every bus keeps of its Protocol, on the embedded one and on real brokers."""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from opentelemetry import baggage, context

from example_app.__main__ import main
from example_app.engines import MEMBERS, Engines
from example_app.events import dead_letters
from example_app.events.bus import Delivery
from example_app.events.event import Event, new_event
from example_app.events.loop import Bounds, EventLoop, together
from example_app.events.outbox import Relay
from example_app.events.sqlite_bus import SqlitePublisher
from example_app.failures import BusUnavailable, DatabaseUnavailable
from tests.example_app.brokers import tansu
from tests.example_app.programs import slow
from tests.example_app.test_events import Keeping

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from example_app.events.bus import Consumer, Progress, Publisher
    from flask_bodytrace.testing import SpanRecorder

pytestmark = pytest.mark.usefixtures("propagators")

_WAIT_S = 120.0


@pytest.fixture(scope="session")
def tansu_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with tansu(tmp_path_factory.mktemp("tansu")) as url:
        yield url


@dataclass
class Bus:
    """One engine, and events that no other test has.

    :ivar placed: a topic, as is `paid`: both are in one destination.
    """

    engines: Engines
    data: Path
    parts: ExitStack
    name: str = field(default_factory=lambda: f"t{uuid.uuid4().hex}")

    @property
    def placed(self) -> str:
        return f"{self.name}.placed"

    @property
    def paid(self) -> str:
        return f"{self.name}.paid"

    @property
    def group(self) -> str:
        return f"shop-{self.name}"

    def publisher(self) -> Publisher:
        return self.parts.enter_context(closing(self.engines.publisher(self.data)))

    def progress(self) -> Progress:
        return self.parts.enter_context(closing(self.engines.progress(self.data)))

    def members(self, group: str = "") -> Sequence[Consumer]:
        """All members of a group, which the test closes."""
        return self.engines.consumers(self.data, group or self.group, [self.placed, self.paid])

    def member(self, group: str = "") -> Consumer:
        """One that has all partitions by itself."""
        topics = [self.placed, self.paid]
        return self.engines.consumers(self.data, group or self.group, topics, members=1)[0]

    def events(self, count: int, keys: int = 1, topic: str = "", *, first: int = 0) -> list[Event]:
        return [
            new_event(topic or self.placed, f"K{number % keys}", {"number": number})
            for number in range(first, first + count)
        ]


@pytest.fixture(params=["embedded", *slow("tansu", "kafka")])
def bus(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bus]:
    engine = request.param
    url = "" if engine == "embedded" else request.getfixturevalue(f"{engine}_url")
    with ExitStack() as parts:
        yield Bus(Engines(bus=url), tmp_path, parts)


def polled(consumer: Consumer, count: int) -> list[Delivery]:
    """Poll until there are so many, and one batch at once: what is not committed comes again."""
    deadline = time.monotonic() + _WAIT_S
    found: Sequence[Delivery] = []
    while len(found) < count and time.monotonic() < deadline:
        found = consumer.poll(1.0)
    assert len(found) == count
    return [*found]


def numbers(deliveries: Sequence[Delivery]) -> list[int]:
    return [delivery.event.payload["number"] for delivery in deliveries]


def test_an_event_arrives_whole(bus: Bus) -> None:
    event = Event(
        event_id="e1",
        topic=bus.paid,
        key="schlüssel",
        headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "baggage": "user.label=canary"},
        payload={"orderId": "A1", "größe": [1, {"b": None}]},
    )
    (place,) = bus.publisher().publish([event])
    with closing(bus.member()) as consumer:
        (delivery,) = polled(consumer, 1)
    assert delivery.event == event
    assert delivery.place == place
    assert place.partition.destination == bus.name


def test_what_happens_to_one_key_is_in_one_partition_in_its_order(bus: Bus) -> None:
    placed, paid = bus.events(12, 4), bus.events(12, 4, bus.paid)
    both = [event for pair in zip(placed, paid, strict=True) for event in pair]
    places = bus.publisher().publish(both)
    with closing(bus.member()) as consumer:
        found = polled(consumer, len(both))
    for key in {event.key for event in both}:
        of_key = [it for it in found if it.event.key == key]
        assert [it.event for it in of_key] == [event for event in both if event.key == key]
        assert len({it.place.partition for it in of_key}) == 1
        offsets = [it.place.offset for it in of_key]
        assert offsets == sorted(set(offsets))
    assert sorted(places) == sorted(it.place for it in found)


def test_what_is_not_committed_is_delivered_again(bus: Bus) -> None:
    bus.publisher().publish(bus.events(5))
    with closing(bus.member()) as consumer:
        first = polled(consumer, 5)
        consumer.commit(first[:2])
        assert numbers(polled(consumer, 3)) == [2, 3, 4]
        consumer.commit(first[2:3])
        assert numbers(polled(consumer, 2)) == [3, 4]
    with closing(bus.member()) as consumer:
        rest = polled(consumer, 2)
        assert numbers(rest) == [3, 4]
        consumer.commit(rest)
        assert consumer.poll(0.2) == []


def test_an_event_that_is_there_twice_hides_none_in_between(bus: Bus) -> None:
    events, publisher = bus.events(3), bus.publisher()
    # As a relay does that was killed before it could remove them.
    publisher.publish(events)
    publisher.publish(events)
    with closing(bus.member()) as consumer:
        consumer.commit(polled(consumer, 6)[:1])
    with closing(bus.member()) as consumer:
        assert numbers(polled(consumer, 5)) == [1, 2, 0, 1, 2]


def test_each_group_gets_every_event(bus: Bus) -> None:
    bus.publisher().publish(bus.events(1))
    with (
        closing(bus.member("one" + bus.name)) as one,
        closing(bus.member("two" + bus.name)) as two,
    ):
        one.commit(polled(one, 1))
        assert numbers(polled(two, 1)) == [0]
        assert one.poll(0.2) == []


def test_a_poll_ends_as_soon_as_there_is_an_event(bus: Bus) -> None:
    publisher = bus.publisher()
    publisher.publish(bus.events(1))
    found: list[Sequence[Delivery]] = []
    with closing(bus.member()) as consumer:
        # From here on it has its partitions.
        consumer.commit(polled(consumer, 1))
        waiting = threading.Thread(target=lambda: found.append(consumer.poll(120)))
        waiting.start()
        publisher.publish(bus.events(1, topic=bus.paid))
        waiting.join(100)
        assert not waiting.is_alive()
    assert [it.event.topic for it in found[0]] == [bus.paid]


def test_the_lag_is_what_is_not_done(bus: Bus) -> None:
    bus.publisher().publish(bus.events(3))
    with closing(bus.member()) as consumer:
        found = polled(consumer, 3)
        deadline = time.monotonic() + _WAIT_S
        while consumer.lag() is None and time.monotonic() < deadline:
            # Kafka's members learn where a partition ends by its first answer.
            consumer.poll(0.1)
        assert consumer.lag() == 3
        consumer.commit(found[:1])
        assert consumer.lag() == 2
        consumer.commit(found)
        deadline = time.monotonic() + _WAIT_S
        while consumer.poll(0.1) or (consumer.lag() != 0 and time.monotonic() < deadline):
            pass
        assert consumer.lag() == 0


class Handled:
    """Keeps what was handled by whom.

    :ivar times: how often each event was handled, by number.
    """

    def __init__(self) -> None:
        self.times: Counter[int] = Counter()
        self.threads: set[int] = set()
        self._by_key: dict[str, list[int]] = defaultdict(list)
        self._changed = threading.Condition()

    def __call__(self, event: Event) -> None:
        with self._changed:
            number = event.payload["number"]
            self.times[number] += 1
            self._by_key[event.key].append(number)
            self.threads.add(threading.get_ident())
            self._changed.notify_all()

    def wait_for(self, count: int) -> None:
        """Return once so many different events were handled."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.times) >= count, _WAIT_S), self.times

    def in_order(self) -> bool:
        """Whether no event came first after a later one of its key."""
        firsts = ([*dict.fromkeys(of_key)] for of_key in self._by_key.values())
        return all(of_key == sorted(of_key) for of_key in firsts)


def loops_of(
    consumers: Sequence[Consumer],
    handlers: Mapping[str, Callable[[Event], None]],
    tracer: Tracer,
    publisher: Publisher,
) -> list[EventLoop]:
    return [EventLoop(it, handlers, tracer, publisher, Bounds(3, 5)) for it in consumers]


def test_members_share_the_work_and_keep_the_order_of_each_key(bus: Bus, tracer: Tracer) -> None:
    publisher, members, batch = bus.publisher(), bus.members(), 40
    assert len(members) == MEMBERS
    handled, published = Handled(), 0
    deadline = time.monotonic() + _WAIT_S
    with together(loops_of(members, {bus.placed: handled}, tracer, publisher)):
        # Until all have joined, one may do it all.
        while len(handled.threads) < MEMBERS and time.monotonic() < deadline:
            publisher.publish(bus.events(batch, keys=batch, first=published))
            published += batch
            handled.wait_for(published)
    assert len(handled.threads) == MEMBERS
    assert {*handled.times} == {*range(published)}
    assert handled.in_order()
    with closing(bus.member()) as consumer:
        assert consumer.poll(1.0) == [], "all is committed"


# The members of a group of the embedded bus are there from the start.
@pytest.mark.parametrize("bus", ["tansu", "kafka"], indirect=True)
def test_members_come_and_go_and_no_event_is_missed(bus: Bus, tracer: Tracer) -> None:
    publisher, handled = bus.publisher(), Handled()
    events = bus.events(300, keys=30)
    handlers = {bus.placed: handled}
    with ExitStack() as running:
        (first,) = loops_of([bus.member()], handlers, tracer, publisher)
        running.enter_context(first.running())
        publisher.publish(events[:100])
        running.enter_context(together(loops_of(bus.members(), handlers, tracer, publisher)))
        publisher.publish(events[100:200])
        (last,) = loops_of([bus.member()], handlers, tracer, publisher)
        with last.running():
            publisher.publish(events[200:250])
        publisher.publish(events[250:])
        handled.wait_for(300)
    assert handled.in_order()


# Tansu says of the end of a partition what is not so.
@pytest.mark.parametrize("bus", ["embedded", *slow("kafka")], indirect=True)
def test_it_is_known_how_far_a_group_is(bus: Bus) -> None:
    publisher, progress = bus.publisher(), bus.progress()

    def behind() -> int:
        both = progress.behind([bus.group, "nobody"], bus.placed)
        assert both["nobody"] == 7
        return both[bus.group]

    publisher.publish([*bus.events(5, keys=5), *bus.events(2, keys=2, topic=bus.paid)])
    assert behind() == 7, "it has not begun, and paid is there too"
    with closing(bus.member()) as consumer:
        found = polled(consumer, 7)
        consumer.commit(found[:0])
        assert behind() == 7
        last = found[-1]
        in_its_partition = [it for it in found if it.place.partition == last.place.partition]
        consumer.commit(in_its_partition)
        assert behind() == 7 - len(in_its_partition)


# So long is a member missed after it has died that this test would not end in time.
_NOT_MISSED = "?session.timeout.ms=300000"


@pytest.mark.parametrize("bus", ["kafka"], indirect=True)
def test_whoever_has_the_seat_next_goes_on_at_once(bus: Bus) -> None:
    engines = Engines(bus=bus.engines.bus + _NOT_MISSED)
    topics = [bus.placed]

    def sit() -> Consumer:
        (member,) = engines.consumers(bus.data, bus.group, topics, members=1, seat="one")
        return bus.parts.enter_context(closing(member))

    publisher, killed = bus.publisher(), sit()
    publisher.publish(bus.events(2))
    assert numbers(polled(killed, 2)) == [0, 1]
    # Nothing was committed, and it never leaves the group, as if it had been killed.
    successor = sit()
    found = polled(successor, 2)
    assert numbers(found) == [0, 1]
    successor.commit(found)
    publisher.publish(bus.events(1, first=2))
    assert numbers(polled(successor, 1)) == [2]


@pytest.mark.parametrize("bus", ["kafka"], indirect=True)
def test_a_member_that_brokers_take_for_replaced_begins_anew(bus: Bus) -> None:
    topics = [bus.placed]
    (first,) = bus.engines.consumers(bus.data, bus.group, topics, members=1, seat="one")
    (other,) = bus.engines.consumers(bus.data, bus.group, topics, members=1, seat="one")
    with closing(first):
        publisher = bus.publisher()
        publisher.publish(bus.events(1))
        assert numbers(polled(first, 1)) == [0]
        with closing(other):
            found = polled(other, 1)
            # Where a heartbeat was told of it before, the client says no more than that it is over.
            with pytest.raises(BusUnavailable, match=r"fenced|Fatal error"):
                first.commit(found)
        deadline = time.monotonic() + _WAIT_S
        seen: list[int] = []
        while not seen and time.monotonic() < deadline:
            with suppress(BusUnavailable):
                seen = numbers(first.poll(0.5))
        assert seen == [0]


def test_the_trace_goes_through_the_bus(bus: Bus, tracer: Tracer, recorder: SpanRecorder) -> None:
    publisher, outbox, seen = bus.publisher(), Keeping(), threading.Event()
    labels: list[object] = []

    def handle(_event: Event) -> None:
        labels.append(baggage.get_baggage("user.label"))
        seen.set()

    (loop,) = loops_of([bus.member()], {bus.placed: handle}, tracer, publisher)
    with tracer.start_as_current_span("order"):
        token = context.attach(baggage.set_baggage("user.label", "canary"))
        outbox.events += bus.events(1)
        context.detach(token)
    with loop.running(), Relay([outbox], publisher, tracer).running():
        assert seen.wait(_WAIT_S)

    assert labels == ["canary"]
    (sent,) = recorder.named(f"send {bus.placed}")
    (processed,) = recorder.named(f"process {bus.placed}")
    recorder.assert_child(sent, of="order")
    recorder.assert_child(processed, of=f"send {bus.placed}")
    for span in sent, processed:
        attributes = span.attributes or {}
        assert attributes["messaging.system"] == publisher.system
        assert attributes["messaging.destination.name"] == bus.name
    at = ("messaging.destination.partition.id", "messaging.kafka.offset")
    assert [(sent.attributes or {})[name] for name in at] == [
        (processed.attributes or {})[name] for name in at
    ]


def test_dead_letters_are_replayed_once_for_the_group_that_gave_them_up(
    bus: Bus, tracer: Tracer
) -> None:
    publisher, handled, others = bus.publisher(), Handled(), Handled()
    failing = True

    def handle(event: Event) -> None:
        if failing and event.payload["number"] == 0:
            raise ValueError("4111111111111111 is no article")
        handled(event)

    dead = dead_letters.topic_of(bus.placed, bus.group)

    def replay() -> int:
        with closing(bus.engines.dead_letters(bus.data, dead)) as letters:
            return dead_letters.replay(dead, letters, publisher)

    publisher.publish(bus.events(3))
    (loop,) = loops_of([bus.member()], {bus.placed: handle}, tracer, publisher)
    with loop.running():
        handled.wait_for(2)
    assert loop.state.shown()["deadLetters"] == {dead: 1}

    assert replay() == 1
    assert replay() == 0
    failing = False
    elsewhere = bus.member("other" + bus.name)
    loops = loops_of([bus.member()], {bus.placed: handle}, tracer, publisher)
    loops += loops_of([elsewhere], {bus.placed: others}, tracer, publisher)
    with together(loops):
        handled.wait_for(3)
        others.wait_for(3)
    assert handled.times == {0: 1, 1: 1, 2: 1}
    assert others.times == {0: 1, 1: 1, 2: 1}, "they had it before, and not again"


@pytest.mark.parametrize("bus", ["tansu", "kafka"], indirect=True)
def test_a_record_that_is_no_event_is_passed_over(
    bus: Bus, caplog: pytest.LogCaptureFixture
) -> None:
    from confluent_kafka import Producer

    publisher = bus.publisher()
    (place,) = publisher.publish(bus.events(1))
    stranger = Producer({"bootstrap.servers": bus.engines.bus[8:].partition("?")[0]})
    for value in b"\xff", b"[]":
        headers: list[tuple[str, str | bytes | None]] = [("ce_id", "1"), ("ce_type", bus.placed)]
        stranger.produce(bus.name, value, "K0", place.partition.number, headers=headers)
    stranger.produce(bus.name, b"{}", "K0", place.partition.number)
    assert stranger.flush(_WAIT_S) == 0
    publisher.publish(bus.events(1, first=1))
    with closing(bus.member()) as consumer:
        found = polled(consumer, 2)
        assert numbers(found) == [0, 1]
        consumer.commit(found)
    assert caplog.text.count("is no event") == 3


@pytest.mark.parametrize("bus", ["kafka"], indirect=True)
def test_replaying_a_topic_that_is_not_there_says_so(
    bus: Bus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EXAMPLE_BUS", bus.engines.bus)
    topic = f"{bus.placed}.dead.shop"
    assert main(["--replay", topic]) == 1
    said = capsys.readouterr().err
    assert said.startswith("cannot replay: Kafka: ")
    assert topic in said


def test_the_bus_of_another_version_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    with closing(sqlite3.connect(path)) as older:
        older.execute("CREATE TABLE log (position INTEGER PRIMARY KEY, event BLOB NOT NULL)")
    with pytest.raises(DatabaseUnavailable, match=r"bus\.db: made by another version.*move it"):
        SqlitePublisher(path)


def test_a_bus_that_is_broken_says_what_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bus.db"
    path.write_bytes(b"garbage" * 9999)
    said = f"{path}: file is not a database: restore it from a backup, or move it away"
    with pytest.raises(DatabaseUnavailable, match=said):
        Engines().publisher(tmp_path)
    with pytest.raises(DatabaseUnavailable, match=said):
        Engines().consumers(tmp_path, "shop", ["order.placed"])
    assert main(["--data", str(tmp_path), "--replay", "order.placed.dead.shop"]) == 1
    assert capsys.readouterr().err.startswith(f"cannot replay: {said}")


def test_a_bus_that_breaks_while_in_use_is_named(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    (consumer, *others) = Engines().consumers(tmp_path, "shop", ["order.placed"])
    with ExitStack() as closed:
        publisher = closed.enter_context(closing(Engines().publisher(tmp_path)))
        for member in (consumer, *others):
            closed.enter_context(closing(member))
        event = new_event("order.placed", "A1", {})
        for member in (consumer, *others):
            member.poll(0)
        places = publisher.publish([event])
        with closing(sqlite3.connect(path)) as other:
            other.execute("DROP TABLE log")
            other.execute("DROP TABLE progress")
        for ask in (
            lambda: publisher.publish([event]),
            lambda: consumer.poll(0),
            lambda: consumer.commit([Delivery(event, places[0])]),
        ):
            with pytest.raises(DatabaseUnavailable, match=f"{path}: no such table"):
                ask()
