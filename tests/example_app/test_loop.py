"""The event loop on the real bus, with handlers and commits that fail."""

import os
import sqlite3
import threading
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
from example_app.events.bus import Delivery
from example_app.events.event import PAID, PLACED, Event, new_event
from example_app.events.loop import Bounds, EventLoop
from example_app.events.sqlite_bus import SqliteConsumer, SqlitePublisher
from example_app.events.state import Doing
from example_app.failures import CallFailed
from example_app.health import health_routes
from flask_bodytrace.testing import SpanRecorder

if TYPE_CHECKING:
    from tests.conftest import Figures

DEAD = "order.placed.dead.shop"


@dataclass
class Bus:
    """The bus in a file, and what a test does with it.

    :ivar path: the file.
    """

    path: Path
    publisher: SqlitePublisher

    def publish(self, *keys: str, topic: str = PLACED) -> None:
        ids = [{"orderId": key, "userId": "U1"} for key in keys]
        self.publisher.publish([new_event(topic, it["orderId"], {**it}) for it in ids])

    def left(self, group: str = "shop") -> list[tuple[str, str]]:
        with closing(SqliteConsumer(self.path, group)) as consumer:
            return [(it.event.topic, it.event.key) for it in consumer.poll(0)]

    def execute(self, statement: str) -> None:
        with closing(sqlite3.connect(self.path)) as connection:
            connection.execute(statement)
            connection.commit()


@pytest.fixture
def bus(tmp_path: Path, propagators: None) -> Iterator[Bus]:  # noqa: ARG001
    with closing(SqlitePublisher(tmp_path / "bus.db")) as publisher:
        yield Bus(tmp_path / "bus.db", publisher)


@pytest.fixture
def consumer(bus: Bus) -> Iterator[SqliteConsumer]:
    with closing(SqliteConsumer(bus.path, "shop")) as consumer:
        yield consumer


@pytest.fixture
def loop(
    bus: Bus, consumer: SqliteConsumer, tracer: Tracer
) -> Callable[[Callable[[Event], None]], EventLoop]:
    def make(handle: Callable[[Event], None]) -> EventLoop:
        return EventLoop(consumer, {PLACED: handle}, tracer, bus.publisher, Bounds(3, 5))

    return make


MakeLoop = Callable[[Callable[[Event], None]], EventLoop]


class Handler:
    """Raises for some events, as often as it is told to.

    :ivar keys: of the events it was given.
    """

    def __init__(self, last: str, raises: Exception | None = None, **failures: int) -> None:
        self.keys: list[str] = []
        self.done = threading.Event()
        self._last = last
        self._raises = raises or ValueError("4111111111111111 is no article")
        self._failures = failures

    def __call__(self, event: Event) -> None:
        self.keys.append(event.key)
        if self._failures.get(event.key, 0):
            self._failures[event.key] -= 1
            raise self._raises
        if event.key == self._last:
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

    assert handler.keys == ["A1", "A1", "A2"]
    processed = recorder.named("process order.placed")
    assert [span.status.is_ok for span in processed] == [False, True, True]
    for span in processed:
        recorder.assert_child(span, of="order")
        assert (span.attributes or {})["messaging.consumer.group.name"] == "shop"
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
        self.left = [Delivery(event, number) for number, event in enumerate(events)]
        self.raises = {"poll": 2, "commit": 2}
        self.committed: list[Delivery] = []
        self.done = threading.Event()

    def _trouble(self, step: str) -> None:
        if self.raises[step]:
            self.raises[step] -= 1
            raise OSError(f"no broker for {step}")

    def poll(self, timeout_s: float) -> Sequence[Delivery]:
        self._trouble("poll")
        if not self.left:
            self.done.wait(timeout_s)
        return [*self.left]

    def commit(self, delivery: Delivery) -> None:
        self._trouble("commit")
        self.committed.append(delivery)
        self.left.remove(delivery)
        if not self.left:
            self.done.set()

    def close(self) -> None: ...


def test_the_loop_survives_an_engine_that_raises(bus: Bus, tracer: Tracer) -> None:
    events = [new_event(PLACED, f"A{number}", {}) for number in range(3)]
    consumer = Troubled(events)
    handled: list[Event] = []
    loop = EventLoop(consumer, {PLACED: handled.append}, tracer, bus.publisher)
    with loop.running():
        assert consumer.done.wait(20)
    assert [event.key for event in handled] == ["A0", "A0", "A0", "A1", "A2"]
    assert [delivery.event for delivery in consumer.committed] == events
    assert consumer.raises == {"poll": 0, "commit": 0}


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
        handled.append(event.key)
        if handled == ["A1", "A1"]:
            again.set()
        if event.key == "A2":
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

    assert handler.keys == ["A1"] * 3 + ["A2"]
    assert bus.left("another") == [(PLACED, "A1"), (PLACED, "A2"), (DEAD, "A1")]
    assert running.state.shown()["deadLetters"] == {DEAD: 1}
    group = {"messaging__consumer__group__name": "shop"}
    assert counted.value("example.events.dead_letters", **group) == 1
    assert counted.value("example.events.failures", error__type="ValueError", **group) == 2
    assert counted.value("example.events.backing_off", **group) == 0


def test_an_event_that_waits_for_a_neighbour_is_not_given_up_so_soon(
    bus: Bus, loop: MakeLoop
) -> None:
    handler = Handler("A1", CallFailed("orders: ConnectError"), A1=4)
    bus.publish("A1")
    with loop(handler).running():
        assert handler.done.wait(20)
    assert handler.keys == ["A1"] * 5
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
        closing(SqliteConsumer(bus.path, "other")) as elsewhere,
        loop(mended).running(),
        EventLoop(elsewhere, {PLACED: other}, tracer, bus.publisher).running(),
    ):
        assert mended.done.wait(20)
        assert other.done.wait(20)
    assert other.keys == ["A1", "A2", "A9"]

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
