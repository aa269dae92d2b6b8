"""Outbox and relay: at least once, in order, in one trace."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from opentelemetry import baggage, context, propagate
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import Tracer

from example_app.events.bus import Partition, Place
from example_app.events.event import PLACED, Event, new_event
from example_app.events.outbox import Relay
from flask_bodytrace.testing import SpanRecorder


class Keeping:
    """An outbox in memory, and a publisher that fails as often as it is told to."""

    system, name = "memory", "db-1"

    def __init__(self, failures: int = 0) -> None:
        self.events: list[Event] = []
        self.published: list[Event] = []
        self.failures = failures
        self.arrived = threading.Event()
        self.woken = threading.Event()

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        count = len(self.events)
        if count:
            publish(self.events)
        del self.events[:count]
        return count

    def publish(self, events: Sequence[Event]) -> Sequence[Place]:
        if self.failures:
            self.failures -= 1
            raise OSError
        first = len(self.published)
        self.published += events
        self.arrived.set()
        return [Place(Partition("memory", 3), first + number) for number in range(len(events))]

    def wait(self, timeout_s: float) -> None:
        self.woken.wait(timeout_s)

    def wake(self) -> None:
        self.woken.set()

    def close(self) -> None: ...


pytestmark = pytest.mark.usefixtures("propagators")


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


def test_the_relay_publishes_when_woken_and_after_failures_in_the_events_trace() -> None:
    both = Keeping(failures=1)
    with recorded() as (tracer, spans):
        here = baggage.set_baggage("user.label", "canary")
        with tracer.start_as_current_span("order", context=here):
            token = context.attach(baggage.set_baggage("user.label", "canary"))
            both.events.append(numbered(1))
            context.detach(token)
        relay = Relay([both], both, tracer)
        with relay.running():
            both.wake()
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
        failed, done = (dict(span.attributes or {}) for span in sent)
        assert failed["messaging.destination.name"] == "order"
        assert "messaging.kafka.offset" not in failed, "nobody knows"
        assert done["messaging.destination.partition.id"] == "3"
        assert done["messaging.kafka.offset"] == 0


def test_the_relay_publishes_what_is_left_when_it_is_stopped() -> None:
    both = Keeping()
    with recorded() as (tracer, _), Relay([both], both, tracer).running():
        both.events.append(numbered(1))
    assert [event.key for event in both.published] == ["A1"]


def test_the_relay_goes_on_with_other_outboxes_while_one_hangs() -> None:
    hanging, other = Keeping(), Keeping()
    other.name = "db-2"
    hanging.events.append(numbered(1))
    other.events.append(numbered(2))

    class Publisher(Keeping):
        def publish(self, events: Sequence[Event]) -> Sequence[Place]:
            if events[0].key == "A1":
                # As a publisher would that waits for a lock on this one's rows.
                assert self.arrived.wait(20), "the other one is published meanwhile"
            return super().publish(events)

    publisher = Publisher()
    with recorded() as (tracer, _), Relay([hanging, other], publisher, tracer).running():
        assert publisher.arrived.wait(20)
    assert [event.key for event in publisher.published] == ["A2", "A1"]


def test_the_relay_backs_off_from_one_outbox_and_says_so() -> None:
    failing, other = Keeping(), Keeping()
    other.name = "db-2"
    failing.events.append(numbered(1))
    tried = threading.Semaphore(0)
    mended = threading.Event()

    class Publisher(Keeping):
        def publish(self, events: Sequence[Event]) -> Sequence[Place]:
            tried.release()
            if not mended.is_set():
                raise OSError("locked")
            return super().publish(events)

    publisher = Publisher()
    with recorded() as (tracer, _):
        relay = Relay([failing, other], publisher, tracer)
        with relay.running():
            for _ in range(3):
                assert tried.acquire(timeout=20)
            shown = {name: state.shown() for name, state in relay.states.items()}
            mended.set()
            assert publisher.arrived.wait(20)
    assert shown["db-1"]["lastError"]["error"] == "OSError"
    assert shown["db-1"]["failuresInARow"] >= 2
    assert (shown["db-2"]["state"], shown["db-2"]["lastError"]) == ("running", None)
