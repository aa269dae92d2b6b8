"""The event loop on the real bus, with handlers and commits that fail."""

import os
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from opentelemetry.trace import Tracer

from example_app.__main__ import main
from example_app.duty import Report
from example_app.events.bus import PARTITIONS, Delivery, Partition, Place
from example_app.events.event import PAID, PLACED, Event, new_event
from example_app.events.loop import Bounds, EventLoop, together
from example_app.events.sqlite_bus import SqliteConsumer, SqlitePublisher
from example_app.events.state import Doing
from example_app.failures import CallFailed
from example_app.health import health_routes
from flask_bodytrace.testing import SpanRecorder

if TYPE_CHECKING:
    from tests.conftest import Figures

DEAD = "order.placed.dead.shop"


def name_of(event: Event) -> str:
    return str(event.payload["orderId"])


@dataclass
class Bus:
    """The bus in a file, and what a test does with it.

    :ivar path: the file.
    """

    path: Path
    publisher: SqlitePublisher

    def publish(self, *names: str, topic: str = PLACED, key: str = "K1") -> None:
        """Publish events, told apart by name; of one key, so that one holds up the next."""
        payloads = [{"orderId": name, "userId": "U1"} for name in names]
        self.publisher.publish([new_event(topic, key, {**payload}) for payload in payloads])

    def left(self, group: str = "shop") -> list[tuple[str, str]]:
        """What a group has not done yet, in the order in which it was published."""
        with closing(SqliteConsumer(self.path, group, [PLACED, DEAD])) as consumer:
            found = sorted(consumer.poll(0), key=lambda it: it.place.offset)
            return [(it.event.topic, name_of(it.event)) for it in found]

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.fixture
def bus(tmp_path: Path, propagators: None) -> Iterator[Bus]:  # noqa: ARG001
    with closing(SqlitePublisher(tmp_path / "bus.db")) as publisher:
        yield Bus(tmp_path / "bus.db", publisher)


@pytest.fixture
def loop(bus: Bus, tracer: Tracer) -> Callable[[Callable[[Event], None]], EventLoop]:
    def make(handle: Callable[[Event], None]) -> EventLoop:
        consumer = SqliteConsumer(bus.path, "shop", [PLACED])
        return EventLoop(consumer, {PLACED: handle}, tracer, bus.publisher, Bounds(3, 5))

    return make


MakeLoop = Callable[[Callable[[Event], None]], EventLoop]


class Handler:
    """Raises for some events, as often as it is told to.

    :ivar names: of the events it was given.
    """

    def __init__(self, last: str, raises: Exception | None = None, **failures: int) -> None:
        self.names: list[str] = []
        self.done = threading.Event()
        self._last = last
        self._raises = raises or ValueError("4111111111111111 is no article")
        self._failures = failures

    def __call__(self, event: Event) -> None:
        name = name_of(event)
        self.names.append(name)
        if self._failures.get(name, 0):
            self._failures[name] -= 1
            raise self._raises
        if name == self._last:
            self.done.set()


def test_events_are_handed_over_in_order_and_tried_again_in_their_trace(
    bus: Bus, loop: MakeLoop, tracer: Tracer, recorder: SpanRecorder
) -> None:
    with tracer.start_as_current_span("order"):
        bus.publish("A0", topic=PAID)
        bus.publish("A1", "A2")
    handler = Handler("A2", A1=1)
    with loop(handler).running():
        assert handler.done.wait(20)

    assert handler.names == ["A1", "A1", "A2"]
    partition = str(zlib.crc32(b"K1") % PARTITIONS)
    processed = recorder.named("process order.placed")
    assert [span.status.is_ok for span in processed] == [False, True, True]
    for span in processed:
        recorder.assert_child(span, of="order")
        attributes = span.attributes or {}
        assert attributes["messaging.consumer.group.name"] == "shop"
        assert attributes["messaging.destination.name"] == "order"
        assert attributes["messaging.destination.partition.id"] == partition
    offsets = [(span.attributes or {})["messaging.kafka.offset"] for span in processed]
    assert offsets == [2, 2, 3]
    assert bus.left() == []


def test_an_event_that_cannot_be_handled_is_kept_when_the_loop_stops(
    bus: Bus, loop: MakeLoop
) -> None:
    tried = threading.Event()

    def fail(_event: Event) -> None:
        tried.set()
        raise OSError

    bus.publish("A1")
    with loop(fail).running():
        assert tried.wait(20)
    assert bus.left() == [(PLACED, "A1")]


class Troubled:
    """An engine that raises, so often at each step, before it does what it is asked for."""

    system, group = "memory", "one"

    def __init__(self, events: Sequence[Event]) -> None:
        partition = Partition("memory", 0)
        self.left = [
            Delivery(event, Place(partition, number)) for number, event in enumerate(events)
        ]
        self.raises = {"poll": 2, "commit": 2}
        self.committed: list[Delivery] = []
        self.done = threading.Event()
        self.closed = threading.Event()

    def _trouble(self, step: str) -> None:
        if self.raises[step]:
            self.raises[step] -= 1
            raise OSError(f"no broker for {step}")

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        self._trouble("poll")
        if not self.left:
            self.done.wait(timeout_s)
        return [*self.left]

    def commit(self, deliveries: Sequence[Delivery]) -> None:
        self._trouble("commit")
        self.committed += deliveries
        self.left = [it for it in self.left if it not in deliveries]
        if not self.left:
            self.done.set()

    def lag(self) -> int | None:
        return len(self.left)

    def close(self) -> None:
        self.closed.set()


def test_the_loop_survives_an_engine_that_raises(bus: Bus, tracer: Tracer) -> None:
    events = [new_event(PLACED, f"A{number}", {}) for number in range(3)]
    consumer = Troubled(events)
    handled: list[Event] = []
    loop = EventLoop(consumer, {PLACED: handled.append}, tracer, bus.publisher)
    with loop.running():
        assert consumer.done.wait(20)
    # Twice they could not be committed after they were handled.
    assert [event.key for event in handled] == ["A0", "A1", "A2"] * 3
    assert [delivery.event for delivery in consumer.committed] == events
    assert consumer.raises == {"poll": 0, "commit": 0}
    assert consumer.closed.is_set()


def test_a_loop_whose_engine_stays_away_stops_at_once(bus: Bus, tracer: Tracer) -> None:
    consumer = Troubled([])
    consumer.raises["poll"] = 1_000_000
    with EventLoop(consumer, {}, tracer, bus.publisher).running():
        pass
    assert consumer.committed == []


def test_after_a_failed_commit_it_polls_again(bus: Bus, loop: MakeLoop) -> None:
    bus.execute(
        "CREATE TRIGGER full BEFORE INSERT ON progress"
        " BEGIN SELECT RAISE(ABORT, 'no space left'); END"
    )
    again, done = threading.Event(), threading.Event()
    handled: list[str] = []

    def handle(event: Event) -> None:
        handled.append(name_of(event))
        if handled == ["A1", "A1"]:
            again.set()
        if name_of(event) == "A2":
            done.set()

    bus.publish("A1")
    with loop(handle).running():
        assert again.wait(20), "polled, and handled, once more"
        bus.execute("DROP TRIGGER full")
        bus.publish("A2")
        assert done.wait(20)
    assert bus.left() == []


def test_a_poison_event_is_given_up_and_holds_up_no_other_for_ever(
    bus: Bus, loop: MakeLoop, counted: "Figures"
) -> None:
    handler = Handler("A2", A1=3)
    bus.publish("A1", "A2")
    running = loop(handler)
    with running.running():
        assert handler.done.wait(20)

    assert handler.names == ["A1"] * 3 + ["A2"]
    assert bus.left("another") == [(PLACED, "A1"), (PLACED, "A2"), (DEAD, "A1")]
    assert running.state.shown()["deadLetters"] == {DEAD: 1}
    group = {"messaging__consumer__group__name": "shop"}
    assert counted.value("example.events.dead_letters", **group) == 1
    assert counted.value("example.events.failures", error__type="ValueError", **group) == 2
    assert counted.value("example.events.backing_off", **group) == 0


def test_an_event_holds_up_no_other_partition(bus: Bus, loop: MakeLoop) -> None:
    # Were it not so, A1 would have to be given up first.
    handler = Handler("B1", CallFailed("orders: ConnectError"), A1=10**6)
    bus.publish("A1", "A2")
    bus.publish("B1", key="K2")
    with loop(handler).running():
        assert handler.done.wait(20)
    assert set(handler.names) == {"A1", "B1"}
    assert bus.left() == [(PLACED, "A1"), (PLACED, "A2")]


def test_what_was_handled_is_noted_while_a_long_batch_goes_on(
    bus: Bus, loop: MakeLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("example_app.events.loop._COMMIT_EVERY_S", 0.0)
    left: list[list[tuple[str, str]]] = []
    done = threading.Event()

    def handle(_event: Event) -> None:
        left.append(bus.left())
        if len(left) == 3:
            done.set()

    bus.publish("A1", "A2", "A3")
    with loop(handle).running():
        assert done.wait(20)
    assert [len(it) for it in left] == [3, 2, 1]


def test_loops_are_stopped_together(bus: Bus, tracer: Tracer) -> None:
    """Each one ends only after all were told to."""
    stopping = threading.Barrier(3)

    class Waits(Troubled):
        def close(self) -> None:
            stopping.wait(20)

    loops = [EventLoop(Waits([]), {}, tracer, bus.publisher) for _ in range(3)]
    with together(loops):
        pass
    assert not stopping.broken


def test_health_and_metrics_tell_how_many_events_wait(
    bus: Bus, loop: MakeLoop, counted: "Figures", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("example_app.events.loop._LOOK_AT_LAG_EVERY_S", 0.0)
    seen: list[tuple[object, float]] = []
    done = threading.Event()

    def handle(_event: Event) -> None:
        seen.append((running.state.shown()["lag"], counted.value("example.events.lag")))
        if len(seen) == 2:
            done.set()

    bus.publish("A1", "A2")
    running = loop(handle)
    with running.running():
        assert done.wait(20)
    assert seen == [(2, 2.0), (2, 2.0)]


def test_an_event_that_waits_for_a_neighbour_is_not_given_up_so_soon(
    bus: Bus, loop: MakeLoop
) -> None:
    handler = Handler("A1", CallFailed("orders: ConnectError"), A1=4)
    bus.publish("A1")
    with loop(handler).running():
        assert handler.done.wait(20)
    assert handler.names == ["A1"] * 5
    assert bus.left("another") == [(PLACED, "A1")]


def test_dead_letters_are_replayed_once_for_the_group_that_gave_them_up(
    bus: Bus, loop: MakeLoop, tracer: Tracer, capsys: pytest.CaptureFixture[str]
) -> None:
    first = Handler("A2", A1=3)
    bus.publish("A1", "A2")
    with loop(first).running():
        assert first.done.wait(20)
    data = ["--data", str(bus.path.parent)]
    assert main([*data, "--replay", DEAD]) == 0
    assert capsys.readouterr().out == f"1 events of {DEAD} were published again\n"

    mended, other = Handler("A1"), Handler("A9")
    bus.publish("A9")
    with (
        closing(SqliteConsumer(bus.path, "other", [PLACED])) as elsewhere,
        loop(mended).running(),
        EventLoop(elsewhere, {PLACED: other}, tracer, bus.publisher).running(),
    ):
        assert mended.done.wait(20)
        assert other.done.wait(20)
    assert other.names == ["A1", "A2", "A9"]

    assert main([*data, "--replay", DEAD]) == 0
    assert capsys.readouterr().out == f"0 events of {DEAD} were published again\n"


@pytest.mark.parametrize("topic", [PLACED, ".dead.shop", "order.placed.dead."])
def test_only_dead_letters_are_replayed(
    bus: Bus, topic: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(bus.path.parent), "--replay", topic]) == 1
    assert "is no dead-letter topic" in capsys.readouterr().err


def test_replaying_where_no_system_was_makes_no_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--data", str(tmp_path), "--replay", DEAD]) == 1
    assert "bus.db is not there" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == []


def test_the_health_route_tells_how_the_loop_is_doing(
    bus: Bus, loop: MakeLoop, counted: "Figures"
) -> None:
    backs_off, go_on = threading.Event(), threading.Event()

    def handle(_event: Event) -> None:
        if running.state.doing is Doing.BACKING_OFF:
            backs_off.set()
            assert go_on.wait(20)
            done.set()
        else:
            raise ValueError("4111111111111111")

    done = threading.Event()
    running = loop(handle)
    app = Flask("shop")
    app.register_blueprint(
        health_routes(loops=lambda: Report(os.getpid(), {"events": running.state.shown()}))
    )
    client = app.test_client()
    bus.publish("A1")
    with running.running():
        assert backs_off.wait(20)
        degraded = client.get("/health")
        assert counted.value("example.events.backing_off") == 1
        go_on.set()
        assert done.wait(20)
    stopped = client.get("/health")

    assert degraded.status_code == 200
    assert degraded.json is not None
    assert degraded.json["status"] == "degraded"
    shown = degraded.json["loops"]["events"]
    assert shown["state"] == "backing off"
    assert shown["failuresInARow"] == 1
    assert (shown["lastError"]["what"], shown["lastError"]["error"]) == (
        "handling order.placed",
        "ValueError",
    )
    assert "4111" not in degraded.text
    assert stopped.status_code == 503
    assert counted.value("example.events.backing_off") == 0
