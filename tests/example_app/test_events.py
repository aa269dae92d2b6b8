"""Outbox, relay, bus and loop: at least once, in order, in one trace."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from example_app.events.bus import Delivery
from example_app.events.event import PAID, PLACED, Event, new_event
from example_app.events.loop import EventLoop
from example_app.events.outbox import Relay
from example_app.events.sqlite_bus import SqliteConsumer, SqlitePublisher
from flask_bodytrace.testing import SpanRecorder


class Keeping:
    """An outbox in memory, and a publisher that fails as often as it is told to."""

    system = "memory"

    def __init__(self, failures: int = 0) -> None:
        self.events: list[Event] = []
        self.published: list[Event] = []
        self.failures = failures
        self.arrived = threading.Event()

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        count = len(self.events)
        if count:
            publish(self.events)
        del self.events[:count]
        return count

    def publish(self, events: Sequence[Event]) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError
        self.published += events
        self.arrived.set()

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def propagators() -> Iterator[None]:
    before = propagate.get_global_textmap()
    ours = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(ours)
    yield
    propagate.set_global_textmap(before)


@contextmanager
def recorded() -> Iterator[tuple[Tracer, SpanRecorder]]:
    from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor

    recorder = SpanRecorder()

    class Recording(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            recorder.add(span)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Recording())
    yield provider.get_tracer("test"), recorder
    provider.shutdown()


def numbered(number: int, topic: str = PLACED) -> Event:
    return new_event(topic, f"A{number}", {"orderId": f"A{number}", "userId": "U1"})


def events_of(deliveries: Sequence[Delivery]) -> list[Event]:
    return [delivery.event for delivery in deliveries]


def test_what_is_not_committed_is_delivered_again(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    events = [numbered(number) for number in range(3)]
    with closing(SqlitePublisher(path)) as publisher:
        publisher.publish(events)
    with closing(SqliteConsumer(path, "one")) as consumer:
        polled = consumer.poll(0)
        assert events_of(polled) == events
        consumer.commit(polled[0])
    # As after kill -9: nothing was said at the end.
    with closing(SqliteConsumer(path, "one")) as consumer:
        polled = consumer.poll(0)
        assert events_of(polled) == events[1:]
        consumer.commit(polled[-1])
        assert consumer.poll(0) == []


def test_an_event_that_is_there_twice_hides_none_in_between(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    events = [numbered(number) for number in range(3)]
    with closing(SqlitePublisher(path)) as publisher:
        # A relay that was killed before it could remove them publishes them again.
        publisher.publish(events)
        publisher.publish(events)
    with closing(SqliteConsumer(path, "one")) as consumer:
        consumer.commit(consumer.poll(0)[0])
    with closing(SqliteConsumer(path, "one")) as consumer:
        assert events_of(consumer.poll(0)) == [*events[1:], *events]


def test_each_group_gets_every_event(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    event = numbered(1)
    with (
        closing(SqlitePublisher(path)) as publisher,
        closing(SqliteConsumer(path, "one")) as one,
        closing(SqliteConsumer(path, "two")) as two,
    ):
        publisher.publish([event])
        (delivery,) = one.poll(0)
        assert delivery.event == event
        one.commit(delivery)
        assert events_of(two.poll(0)) == [event]
        assert one.poll(0) == []


def test_a_poll_ends_as_soon_as_there_is_an_event(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    polled: list[Sequence[Delivery]] = []
    with closing(SqlitePublisher(path)) as publisher, closing(SqliteConsumer(path, "g")) as group:
        waiting = threading.Thread(target=lambda: polled.append(group.poll(60)))
        waiting.start()
        publisher.publish([numbered(1)])
        waiting.join(20)
    assert [event.key for event in events_of(polled[0])] == ["A1"]


def test_the_relay_publishes_when_woken_and_after_failures_in_the_events_trace() -> None:
    both = Keeping(failures=1)
    with recorded() as (tracer, spans):
        here = baggage.set_baggage("user.label", "canary")
        with tracer.start_as_current_span("order", context=here):
            token = context.attach(baggage.set_baggage("user.label", "canary"))
            both.events.append(numbered(1))
            context.detach(token)
        relay = Relay(both, both, tracer)
        with relay.running():
            relay.wake()
            assert both.arrived.wait(20)

        (event,) = both.published
        sent = spans.named("send order.placed")
        assert len(sent) == 2, "one for each try"
        for span in sent:
            spans.assert_child(span, of="order")
            spans.assert_ids(span, {"order.id": "A1", "user.id": "U1"})
        carried = propagate.extract(event.headers)
        assert baggage.get_baggage("user.label", carried) == "canary"
        last = sent[-1].get_span_context()
        assert last is not None
        assert f"{last.span_id:016x}" in event.headers["traceparent"]


def test_the_relay_publishes_what_is_left_when_it_is_stopped() -> None:
    both = Keeping()
    with recorded() as (tracer, _), Relay(both, both, tracer).running():
        both.events.append(numbered(1))
    assert [event.key for event in both.published] == ["A1"]


def test_the_loop_hands_over_in_order_and_tries_again_in_the_events_trace(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    handled: list[str] = []
    done = threading.Event()

    def handle(event: Event) -> None:
        handled.append(event.key)
        if len(handled) == 1:
            raise OSError
        if event.key == "A2":
            done.set()

    with (
        recorded() as (tracer, spans),
        closing(SqlitePublisher(path)) as publisher,
        closing(SqliteConsumer(path, "shop")) as consumer,
    ):
        with tracer.start_as_current_span("order"):
            publisher.publish([numbered(0, PAID), numbered(1), numbered(2)])
        with EventLoop(consumer, {PLACED: handle}, tracer).running():
            assert done.wait(20)

        assert handled == ["A1", "A1", "A2"]
        processed = spans.named("process order.placed")
        assert [span.status.is_ok for span in processed] == [False, True, True]
        for span in processed:
            spans.assert_child(span, of="order")
            assert (span.attributes or {})["messaging.consumer.group.name"] == "shop"
        assert consumer.poll(0) == []


def test_an_event_that_cannot_be_handled_is_kept_when_the_loop_stops(tmp_path: Path) -> None:
    path = tmp_path / "bus.db"
    tried = threading.Event()

    def fail(_event: Event) -> None:
        tried.set()
        raise OSError

    with (
        recorded() as (tracer, _),
        closing(SqlitePublisher(path)) as publisher,
        closing(SqliteConsumer(path, "shop")) as consumer,
    ):
        publisher.publish([numbered(1)])
        with EventLoop(consumer, {PLACED: fail}, tracer).running():
            assert tried.wait(20)
        assert [event.key for event in events_of(consumer.poll(0))] == ["A1"]


class Troubled:
    """An engine that raises, once at each step, before it does what it is asked for."""

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
        polled, self.left = self.left, []
        return polled

    def commit(self, delivery: Delivery) -> None:
        self._trouble("commit")
        self.committed.append(delivery)
        if delivery.position == 2:
            self.done.set()

    def close(self) -> None: ...


def test_the_loop_survives_an_engine_that_raises() -> None:
    events = [numbered(number) for number in range(3)]
    consumer = Troubled(events)
    handled: list[Event] = []
    with recorded() as (tracer, _), EventLoop(consumer, {PLACED: handled.append}, tracer).running():
        assert consumer.done.wait(20)
    assert handled == events
    assert events_of(consumer.committed) == events
    assert consumer.raises == {"poll": 0, "commit": 0}


def test_a_loop_whose_engine_stays_away_stops_at_once() -> None:
    consumer = Troubled([])
    consumer.raises["poll"] = 1_000_000
    with recorded() as (tracer, _), EventLoop(consumer, {}, tracer).running():
        pass
    assert consumer.committed == []
