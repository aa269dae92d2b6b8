"""The demo's judge must find what is wrong, and the demo must find nothing."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind
from opentelemetry.util.types import AttributeValue

from example_app.demo.expectation import Answer, Expectation, ExpectedSpan, differences
from example_app.demo.tree import render

EXPECTED = Expectation(
    status=201,
    reply={"orderId": "A1"},
    spans=[
        ExpectedSpan(
            name="POST /orders",
            kind=SpanKind.SERVER,
            ids={"order.id": "A1"},
            attributes={"http.response.status_code": 201},
        ),
        ExpectedSpan(name="INSERT orders", kind=SpanKind.CLIENT, parent="POST /orders"),
    ],
)


@pytest.fixture
def spans() -> Sequence[ReadableSpan]:
    exporter, provider = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    attributes: dict[str, AttributeValue] = {"order.id": "A1", "http.response.status_code": 201}
    with (
        tracer.start_as_current_span("POST /orders", kind=SpanKind.SERVER, attributes=attributes),
        tracer.start_as_current_span("INSERT orders", kind=SpanKind.CLIENT),
    ):
        pass
    provider.shutdown()
    return exporter.get_finished_spans()


@pytest.fixture
def answer(spans: Sequence[ReadableSpan]) -> Answer:
    server = spans[-1].context
    headers = {"x-trace-id": f"{server.trace_id:032x}", "x-span-id": f"{server.span_id:016x}"}
    return Answer(status=201, headers=headers, reply={"orderId": "A1", "more": 1})


def test_what_is_as_expected_has_no_differences(
    spans: Sequence[ReadableSpan], answer: Answer
) -> None:
    assert not list(differences(EXPECTED, answer, spans))


def test_each_difference_in_the_answer_is_told(
    spans: Sequence[ReadableSpan], answer: Answer
) -> None:
    headers = {**answer.headers, "x-span-id": "0" * 16, "x-parent-span-id": "1" * 16}
    bad = Answer(status=500, headers=headers, reply={"orderId": "A2"})

    assert list(differences(EXPECTED, bad, spans)) == [
        "status 500 instead of 201",
        "orderId is 'A2' instead of 'A1' in the reply",
        f"X-Span-ID is {'0' * 16}, not the server span's id",
        f"X-Parent-Span-ID is {'1' * 16} instead of None",
    ]
    assert list(differences(EXPECTED, replace(answer, headers={}), spans)) == [
        "no X-Trace-ID header"
    ]


def test_each_difference_in_the_spans_is_told(
    spans: Sequence[ReadableSpan], answer: Answer
) -> None:
    server = replace(EXPECTED.spans[0], ids={"user.id": "U1"})
    select = ExpectedSpan(name="SELECT orders", kind=SpanKind.CLIENT, parent="POST /orders")
    expected = replace(EXPECTED, spans=[server, select], continues=("2" * 32, "3" * 16))

    assert list(differences(expected, answer, spans)) == [
        "no span SELECT orders of kind CLIENT under POST /orders",
        "a span INSERT orders of kind CLIENT under POST /orders that should not be",
        "span POST /orders: order.id is 'A1' instead of None",
        "span POST /orders: user.id is None instead of 'U1'",
        "the caller's trace is not continued",
    ]


def test_the_tree_is_indented(spans: Sequence[ReadableSpan]) -> None:
    trace, server, statement = render(spans)

    assert trace == f"trace {spans[0].context.trace_id:032x}"
    assert server.startswith("  POST /orders  SERVER  ")
    assert server.endswith("ms  order.id=A1 http.response.status_code=201")
    assert statement.startswith("    INSERT orders  CLIENT  ")


def test_the_demo_finds_nothing_wrong() -> None:
    environment = {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("OTEL_", "FLASK_", "COV_"))
    }
    demo = subprocess.run(
        [sys.executable, "-W", "error", "-m", "example_app", "--demo"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert demo.stderr == ""
    assert demo.returncode == 0, demo.stdout
    assert "9 requests, 15 spans, 0 problems" in demo.stdout
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in demo.stdout
