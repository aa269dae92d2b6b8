"""``BODYTRACE_KEEP``: requests that nobody sampled, exported because of how they ended."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from flask import Flask, Response, abort, current_app, g, request
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_ON,
    Decision,
    ParentBased,
    Sampler,
    SamplingResult,
)
from opentelemetry.trace import TraceFlags, format_span_id

from flask_bodytrace import BodyTrace, ConfigError, carry
from flask_bodytrace.otel import keeping
from tests.tracing import Spans

UNSAMPLED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
SAMPLED = UNSAMPLED[:-1] + "1"
NONE = ParentBased(ALWAYS_OFF)
JSON = {"orderId": "ORD1"}


class Opaque(Sampler):
    """Decides as another one; nobody can predict it."""

    def __init__(self, inner: Sampler) -> None:
        self._inner = inner

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return self._inner.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "opaque"


@pytest.fixture(params=["fast", "by the SDK"])
def sampling(request: pytest.FixtureRequest) -> Callable[[Sampler], Sampler]:
    def by_the_sdk(sampler: Sampler) -> Sampler:
        return Opaque(sampler)

    return (lambda sampler: sampler) if request.param == "fast" else by_the_sdk


MakeShop = Callable[..., tuple[Flask, Spans]]


@pytest.fixture
def make_shop(sampling: Callable[[Sampler], Sampler]) -> MakeShop:
    def make(
        keep: str = "server-errors,id:order.id=ORD1",
        sampler: Sampler = NONE,
        **settings: Any,
    ) -> tuple[Flask, Spans]:
        spans = Spans()
        provider = TracerProvider(sampler=sampling(sampler))
        provider.add_span_processor(SimpleSpanProcessor(spans))
        tracer = provider.get_tracer("shop")
        app = Flask("shop")
        settings.setdefault("ids", "order.id=orderId")
        BodyTrace(app, tracer_provider=provider, keep=keep, **settings)

        @app.post("/orders")
        def orders() -> dict[str, Any]:
            with tracer.start_as_current_span("charge"):
                sent: dict[str, str] = {}
                propagate.inject(sent)
            if request.args.get("fails"):
                abort(503)
            return {"sent": sent["traceparent"], "sampled": g.trace.sampled}

        @app.get("/stream")
        def stream() -> Response:
            def chunks() -> Iterator[str]:
                with tracer.start_as_current_span("chunk"):
                    yield "one"
                raise ValueError("broken")

            return Response(chunks())

        app.extensions |= {"provider": provider, "tracer": tracer}
        return app, spans

    return make


def names(spans: Spans) -> set[str]:
    return {span.name for span in spans.all}


def test_a_request_that_was_not_sampled_is_exported_with_the_spans_below_it(
    make_shop: MakeShop,
) -> None:
    app, spans = make_shop()
    answer = app.test_client().post(
        "/orders?fails=1", json=JSON, headers={"traceparent": UNSAMPLED}
    )
    assert answer.status_code == 503
    server, charge = spans.one("POST /orders"), spans.one("charge")
    assert server.attributes is not None
    assert server.attributes["bodytrace.kept"] == "error"
    assert server.attributes["order.id"] == "ORD1"
    assert server.attributes["http.response.status_code"] == 503
    assert server.context.trace_flags.sampled
    assert charge.context.trace_flags.sampled
    assert charge.parent is not None
    assert charge.parent.span_id == server.context.span_id
    assert answer.headers["X-Span-ID"] == format_span_id(server.context.span_id)


def test_one_that_nobody_wants_is_not(make_shop: MakeShop) -> None:
    app, spans = make_shop()
    assert app.test_client().post("/orders", json={"orderId": "ORD2"}).status_code == 200
    assert not spans.all


def test_a_business_id_keeps_it(make_shop: MakeShop) -> None:
    app, spans = make_shop()
    app.test_client().post("/orders", json=JSON)
    assert (spans.one("POST /orders").attributes or {})["bodytrace.kept"] == "id"
    assert names(spans) == {"POST /orders", "charge"}


def test_an_id_that_the_view_sets_keeps_it(make_shop: MakeShop) -> None:
    app, spans = make_shop("id:user.id=me", ids="")

    @app.get("/me")
    def me() -> str:
        g.trace.set_id("user.id", "me")
        return ""

    app.test_client().get("/me")
    assert (spans.one("GET /me").attributes or {})["bodytrace.kept"] == "id"


def test_an_id_stored_as_a_hash_keeps_it(make_shop: MakeShop) -> None:
    app, spans = make_shop("id:order.id=ORD1", id_hash="order.id", hash_key="key")
    app.test_client().post("/orders", json=JSON)
    assert (spans.one("POST /orders").attributes or {})["order.id"] != "ORD1"


def test_a_slow_one_is_kept(make_shop: MakeShop) -> None:
    app, spans = make_shop("slow:0ms")
    app.test_client().post("/orders", json=JSON)
    assert (spans.one("POST /orders").attributes or {})["bodytrace.kept"] == "slow"


def test_flags_that_are_sent_on_stay_as_the_sampler_said(make_shop: MakeShop) -> None:
    app, spans = make_shop(response_headers="x-trace,server-timing")
    answer = app.test_client().post("/orders", json=JSON)
    assert answer.json is not None
    written = answer.headers["Server-Timing"].removesuffix('"')
    for sent in (answer.json["sent"], written):
        assert not int(sent[-2:], 16) & TraceFlags.SAMPLED
    assert answer.json["sampled"] is False
    assert names(spans) == {"POST /orders", "charge"}


def test_a_sampled_request_is_exported_once_and_does_not_say_that_it_was_kept(
    make_shop: MakeShop,
) -> None:
    app, spans = make_shop("errors,slow:0ms", DEFAULT_ON)
    app.test_client().post("/orders?fails=1", json=JSON, headers={"traceparent": SAMPLED})
    assert len(spans.all) == 2
    assert "bodytrace.kept" not in (spans.one("POST /orders").attributes or {})


def test_strangers_choose_neither_flags_nor_what_is_kept(make_shop: MakeShop) -> None:
    app, spans = make_shop("slow:0ms", incoming="link")
    app.test_client().post("/orders", json=JSON, headers={"traceparent": SAMPLED})
    assert names(spans) == {"POST /orders", "charge"}


def test_a_stream_that_breaks_is_kept(make_shop: MakeShop) -> None:
    app, spans = make_shop()
    with pytest.raises(ValueError, match="broken"), app.test_client().get("/stream") as answer:
        _ = answer.data
    assert names(spans) == {"GET /stream", "chunk"}


def leaving_spans_open(app: Flask) -> tuple[Any, Callable[[], Any]]:
    """Of one request a span that is open, and what starts another one in its context."""
    left: list[Any] = []

    @app.get("/later")
    def view() -> str:
        start_span = current_app.extensions["tracer"].start_span
        left.extend((start_span("later"), carry(partial(start_span, "after"))))
        return ""

    app.test_client().get("/later")
    later, start_after = left
    return later, start_after


def test_a_span_that_ends_after_the_answer_is_kept_with_its_request(make_shop: MakeShop) -> None:
    app, spans = make_shop("slow:0ms")
    later, start_after = leaving_spans_open(app)
    assert names(spans) == {"GET /later"}
    later.end()
    start_after().end()
    assert names(spans) == {"GET /later", "later", "after"}


def test_what_ends_after_a_request_that_is_not_kept_is_dropped(make_shop: MakeShop) -> None:
    app, spans = make_shop("errors")
    later, start_after = leaving_spans_open(app)
    later.end()
    assert not start_after().is_recording()
    assert not spans.all


def test_an_application_within_another_one_is_kept_with_it(make_shop: MakeShop) -> None:
    app, spans = make_shop("errors")

    @app.get("/outer")
    def outer() -> tuple[str, int]:
        assert current_app.test_client().post("/orders", json=JSON).status_code == 200
        return "", 500

    app.test_client().get("/outer")
    assert names(spans) == {"GET /outer", "POST /orders", "charge"}


def test_nothing_is_left_of_requests_that_are_over(make_shop: MakeShop) -> None:
    app, _spans = make_shop("errors")
    for path in ("/orders", "/orders?fails=1", "/none"):
        app.test_client().post(path, json=JSON)
    keeper = keeping.keeping(app.extensions["provider"])
    assert keeper.count == 0
    assert not keeper.held_by


def test_what_is_held_is_bounded_and_that_is_said_once(
    make_shop: MakeShop, caplog: pytest.LogCaptureFixture
) -> None:
    app, spans = make_shop("errors")

    @app.get("/many")
    def many() -> tuple[str, int]:
        for _ in range(2 * keeping.MOST_OF_ONE):
            with current_app.extensions["tracer"].start_as_current_span("step"):
                pass
        return "", 500

    with caplog.at_level(logging.WARNING, "flask_bodytrace"):
        app.test_client().get("/many")
    assert len(spans.all) == keeping.MOST_OF_ONE
    assert len([each for each in caplog.records if "BODYTRACE_KEEP" in each.message]) == 1


def test_spans_outside_of_requests_are_sampled_as_before(make_shop: MakeShop) -> None:
    app, spans = make_shop("slow:0ms")
    span = app.extensions["tracer"].start_span("a job")
    assert not span.is_recording()
    assert not spans.all


def test_a_processor_sees_what_the_specification_says(make_shop: MakeShop) -> None:
    app, _ = make_shop("errors")
    seen: list[tuple[str, bool]] = []

    class Watching(SpanProcessor):
        def on_start(self, span: Span, parent_context: Any = None) -> None:  # noqa: ARG002
            seen.append(("start", span.get_span_context().trace_flags.sampled))

        def on_end(self, span: Any) -> None:
            seen.append(("end", span.context.trace_flags.sampled))

    app.extensions["provider"].add_span_processor(Watching())
    app.test_client().get("/none")
    assert seen == [("start", False), ("end", False), ("end", True)]


def test_applications_that_share_a_provider_have_rules_of_their_own() -> None:
    spans = Spans()
    provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF))
    provider.add_span_processor(SimpleSpanProcessor(spans))
    apps = []
    for rules in ("errors", "", "slow:0ms"):
        app = Flask("shop")
        BodyTrace(app, keep=rules, tracer_provider=provider)
        apps.append(app)
    for app in apps:
        app.test_client().get("/none")
    kept = [(span.attributes or {})["bodytrace.kept"] for span in spans.all]
    assert kept == ["error", "slow"]


def test_a_sampler_written_for_an_older_sdk_is_asked_as_the_sdk_asks_it(spans: Spans) -> None:
    class Old(Sampler):
        def should_sample(  # type: ignore[override]
            self, _context: Any, _id: int, _name: str, _kind: Any, attributes: Any, _links: Any
        ) -> SamplingResult:
            return SamplingResult(Decision.RECORD_AND_SAMPLE, attributes)

        def get_description(self) -> str:
            return "old"

    provider = TracerProvider(sampler=Old(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = Flask("old")
    BodyTrace(app, tracer_provider=provider, keep="errors")
    app.test_client().get("/")
    assert spans.server().name == "GET"


def test_a_provider_that_cannot_hold_spans_is_an_error() -> None:
    with pytest.raises(
        ConfigError, match=r"BODYTRACE_KEEP needs .* this one is a NoOpTracerProvider"
    ):
        BodyTrace(Flask("shop"), keep="errors", tracer_provider=trace.NoOpTracerProvider())


def test_what_is_no_rule_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match=r"BODYTRACE_KEEP='slow' .*'slow' is none"):
        BodyTrace(Flask("shop"), keep="slow")


def test_always_on_leaves_nothing_to_keep() -> None:
    provider = TracerProvider(sampler=ALWAYS_ON)
    spans = Spans()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = Flask("shop")
    BodyTrace(app, keep="slow:0ms", tracer_provider=provider)
    app.test_client().get("/none")
    assert "bodytrace.kept" not in (spans.one("GET").attributes or {})
