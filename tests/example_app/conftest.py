"""What the tests of events share: a broker, the propagators of the system, a tracer."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from opentelemetry import metrics, propagate
from opentelemetry.baggage.propagation import W3CBaggagePropagator
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from flask_bodytrace.testing import SpanRecorder
from tests.example_app.brokers import Kafka

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

    from tests.conftest import Figures


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    """What the program's `main` ignores as it ends, children of later tests would ignore too."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def kafka_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    kafka = Kafka(tmp_path_factory.mktemp("kafka"))
    with kafka.running():
        yield kafka.url


@pytest.fixture
def propagators() -> Iterator[None]:
    before = propagate.get_global_textmap()
    ours = CompositePropagator([TraceContextTextMapPropagator(), W3CBaggagePropagator()])
    propagate.set_global_textmap(ours)
    yield
    propagate.set_global_textmap(before)


@pytest.fixture
def recorder() -> SpanRecorder:
    return SpanRecorder()


@pytest.fixture
def tracer(recorder: SpanRecorder, propagators: None) -> Iterator[Tracer]:  # noqa: ARG001
    class Recording(SpanProcessor):
        def on_end(self, span: ReadableSpan) -> None:
            recorder.add(span)

    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Recording())
    yield provider.get_tracer("test")
    provider.shutdown()


@pytest.fixture
def counted(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> Figures:
    """The metrics of what is made from here on."""
    monkeypatch.setattr(metrics, "get_meter", figures.provider.get_meter)
    return figures
