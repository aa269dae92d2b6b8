from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from flask import Flask, Response, g
from flask.testing import FlaskClient
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider

from flask_bodytrace import BodyTrace
from flask_bodytrace.testing import (
    SpanRecorder,
    capture_spans,
    deterministic_ids,
    span_id_of,
    trace_id_of,
    tracing_client,
)

if TYPE_CHECKING:
    from tests.conftest import MakeApp

pytest_plugins = ["pytester"]


@pytest.fixture
def app(make_app: MakeApp, provider: TracerProvider) -> Flask:
    app = make_app(ids="order.id=orderId")
    tracer = trace.get_tracer("shop", tracer_provider=provider)

    @app.post("/orders")
    def create() -> str:
        with tracer.start_as_current_span("reserve"), tracer.start_as_current_span("charge"):
            return str(g.trace.trace_id)

    @app.get("/stream")
    def stream() -> Response:
        return Response(iter(["a", "b"]))

    return app


def test_finished_spans_are_there_when_the_call_returns(app: Flask) -> None:
    with capture_spans(app) as spans:
        client = app.test_client()
        for _ in range(20):
            client.post("/orders", json={"orderId": "ORD1"})
            assert [span.name for span in spans.finished] == ["charge", "reserve", "POST /orders"]
            spans.clear()


def test_spans_of_a_stream_are_there_once_it_was_read(app: Flask) -> None:
    with capture_spans(app) as spans:
        answer = app.test_client().get("/stream")
        assert not spans.finished
        answer.get_data()
        spans.one("GET /stream")


def test_assertions_hold_for_what_is_so(app: Flask) -> None:
    client = tracing_client(app)
    with capture_spans(app) as spans:
        client.post("/orders", json={"orderId": "ORD1"})
    server = spans.one("POST /orders")
    assert spans.assert_ids("POST /orders", {"order.id": "ORD1"}) is server
    assert spans.assert_child("reserve", of="POST /orders") in spans.children_of(server)
    spans.assert_child("charge", of=spans.one("reserve"))
    spans.assert_child(server, of=client.caller)
    spans.assert_edges([(None, "POST /orders"), ("POST /orders", "reserve"), ("reserve", "charge")])
    with capture_spans(app) as untraced:
        app.test_client().post("/orders")
    untraced.assert_root("POST /orders")


def test_assertions_say_what_is_there_instead(app: Flask) -> None:
    client = tracing_client(app)
    with capture_spans(app) as spans:
        client.post("/orders", json={"orderId": "ORD1"})
    server = spans.one("POST /orders")
    tree = (
        f"(not recorded)  {client.caller.span_id:016x}\n"
        f"  POST /orders  {span_id_of(server)}\n    reserve"
    )
    assert tree in spans.tree()

    with pytest.raises(AssertionError) as nothing:
        spans.one("GET /orders")
    assert str(nothing.value).startswith("0 spans are named 'GET /orders', not one; finished are\n")
    assert tree in str(nothing.value)

    with pytest.raises(AssertionError) as child:
        spans.assert_child("charge", of="POST /orders")
    assert f"'charge' (trace {trace_id_of(server)}) is below span" in str(child.value)
    assert f"not below 'POST /orders', span {span_id_of(server)}" in str(child.value)
    assert tree in str(child.value)

    with pytest.raises(AssertionError, match="no root span: its parent is span"):
        spans.assert_root(server)

    with pytest.raises(AssertionError, match=r"edges missing: \[\('a', 'b'\)\], not expected"):
        spans.assert_edges([("a", "b")])

    with pytest.raises(AssertionError) as ids:
        spans.assert_ids(server, {"order.id": "ORD2", "user.id": "U1"})
    assert "{'order.id': 'ORD1', 'user.id': None}" in str(ids.value)

    with pytest.raises(AssertionError, match="sampler off"):
        SpanRecorder().one("GET /")


def test_every_request_of_a_tracing_client_starts_a_trace(app: Flask) -> None:
    client = tracing_client(app)
    with capture_spans(app) as spans:
        first = client.post("/orders").text
        second = client.post("/orders").text
        given = client.post("/orders", headers={"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}).text
    assert first != second
    assert second == f"{client.caller.trace_id:032x}"
    assert given == "a" * 32
    assert [trace_id_of(span) for span in spans.named("POST /orders")] == [first, second, given]


def test_a_tracing_client_can_ask_not_to_be_sampled(app: Flask) -> None:
    with capture_spans(app) as spans:
        assert tracing_client(app, sampled=False).post("/orders").status_code == 200
    assert not spans.finished


def test_a_tracing_client_builds_on_the_applications_own(app: Flask) -> None:
    class Own(FlaskClient):
        pass

    app.test_client_class = Own
    client = tracing_client(app, use_cookies=False)
    assert isinstance(client, Own)
    with client:
        assert client.post("/orders").text == g.trace.trace_id


def test_ids_are_numbers_on_request(app: Flask) -> None:
    client = app.test_client()
    with capture_spans(app) as spans:
        for _ in range(2):
            with deterministic_ids():
                client.post("/orders")
        with deterministic_ids(100):
            answer = client.post("/orders")
        random = client.post("/orders").text
    assert [(trace_id_of(span), span_id_of(span)) for span in spans.named("POST /orders")][:2] == [
        ("0" * 31 + "1", "0" * 15 + "1")
    ] * 2
    assert answer.text == f"{100:032x}"
    assert int(random, 16) > 10_000


# T25
def test_an_application_may_set_its_provider_after_capture_began() -> None:
    with capture_spans() as spans:
        provider = TracerProvider()
        app = Flask("late")
        BodyTrace(app, tracer_provider=provider)
        app.test_client().get("/")
    assert [span.name for span in spans.finished] == ["GET"]


def test_capturing_many_times_leaves_one_processor_and_records_no_more(app: Flask) -> None:
    with capture_spans(app) as first:
        pass
    provider = app.extensions["bodytrace"].plan.provider
    processors = len(provider._active_span_processor._span_processors)
    for _ in range(10):
        with capture_spans(), capture_spans(app):
            pass
    app.test_client().post("/orders")
    assert not first.finished
    assert len(provider._active_span_processor._span_processors) == processors


def test_two_captures_at_a_time_see_the_same_once(app: Flask) -> None:
    with capture_spans() as one, capture_spans(app) as other:
        app.test_client().post("/orders")
    assert len(one.finished) == len(other.finished) == 3


def test_what_cannot_be_captured_is_told() -> None:
    app = Flask("none")
    with pytest.raises(TypeError, match="has no BodyTrace"), capture_spans(app):
        pass
    BodyTrace(app, tracer_provider=NoOpTracerProvider())
    with pytest.raises(TypeError, match="NoOpTracerProvider"), capture_spans(app):
        pass
    with capture_spans() as spans:
        app.test_client().get("/")
    assert not spans.finished


SHOP = """
    from flask import Flask, g
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
    from flask_bodytrace import BodyTrace

    exported = InMemorySpanExporter()

    def make_app(provider=None):
        app = Flask("shop")
        BodyTrace(app, tracer_provider=provider, ids="order.id=orderId")

        @app.post("/orders")
        def create():
            return g.trace.trace_id

        return app

    def own_provider():
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(exported))
        return provider
"""

TESTS = """
    import pytest
    from opentelemetry import trace
    import shop

    made_at_import = shop.make_app(shop.own_provider())

    @pytest.mark.parametrize("number", range(8))
    def test_with_a_provider_of_its_own(bodytrace_spans, bodytrace_client, number):
        shop.exported.clear()
        client = bodytrace_client(made_at_import)
        client.post("/orders", json={"orderId": f"ORD{number}"})
        span = bodytrace_spans.one("POST /orders")
        bodytrace_spans.assert_ids(span, {"order.id": f"ORD{number}"})
        bodytrace_spans.assert_child(span, of=client.caller)
        assert len(shop.exported.get_finished_spans()) == 1, "the application's exporter goes on"

    def test_with_a_provider_made_in_the_test(bodytrace_spans):
        shop.make_app(shop.own_provider()).test_client().post("/orders")
        bodytrace_spans.assert_root("POST /orders")

    def test_with_the_global_provider(bodytrace_spans):
        trace.set_tracer_provider(shop.own_provider())
        app = shop.make_app()
        app.test_client().post("/orders")
        bodytrace_spans.one("POST /orders")

    def test_with_the_global_provider_set_before(bodytrace_spans):
        with trace.get_tracer("x").start_as_current_span("by hand"):
            pass
        shop.make_app().test_client().post("/orders")

    def test_numbered(bodytrace_spans, bodytrace_ids):
        assert made_at_import.test_client().post("/orders").text == "0" * 31 + "1"
        assert [span.name for span in bodytrace_spans.finished] == ["POST /orders"]
"""


@pytest.mark.parametrize(
    "arguments", [(), ("-n", "2"), ("-p", "no:randomly", "--import-mode=importlib")]
)
# T25
def test_the_fixtures_work_whatever_provider_is_set(
    pytester: pytest.Pytester, arguments: tuple[str, ...]
) -> None:
    pytester.makepyfile(shop=SHOP, test_shop=TESTS)
    pytester.makeini("[pytest]\npythonpath = .\nfilterwarnings = error")
    pytester.runpytest_subprocess(*arguments).assert_outcomes(passed=12)


def test_the_plugin_adds_fixtures_and_nothing_else(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import logging
        import sys

        def test_untouched():
            from opentelemetry import trace
            assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
            assert "flask_bodytrace.testing" not in sys.modules
            assert "makeRecord" in logging.Logger.makeRecord.__qualname__
            assert logging.Logger.makeRecord.__module__ == "logging"
        """
    )
    result = pytester.runpytest_subprocess("--fixtures", "-v")
    for name in ("bodytrace_spans", "bodytrace_client", "bodytrace_ids"):
        result.stdout.fnmatch_lines([f"{name} -- *"])
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_a_failing_assertion_shows_the_tree(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(shop=SHOP)
    pytester.makepyfile(
        """
        import shop

        def test_wrong(bodytrace_spans):
            shop.make_app().test_client().post("/orders")
            bodytrace_spans.one("POST /order")
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(
        [
            "E*AssertionError: 0 spans are named 'POST /order', not one; finished are",
            "E*POST /orders*",
        ]
    )


def test_capturing_logs_nothing(app: Flask, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG), capture_spans(app):
        app.test_client().post("/orders")
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


# T05
def test_a_streamed_response_that_the_test_never_reads_has_its_span() -> None:
    app = Flask("streams")
    BodyTrace(app, tracer_provider=TracerProvider())
    app.add_url_rule("/", view_func=lambda: iter(["a", "b"]))
    with capture_spans(app) as spans:
        app.test_client().get("/")
        assert spans.one("GET /").name == "GET /"
