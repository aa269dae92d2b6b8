"""Every short cut ends where the long way does."""

from __future__ import annotations

import copy
import gc
import json
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, g, request
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import (
    ReadableSpan,
    Span,
    SpanLimits,
    SpanProcessor,
    Tracer,
    TracerProvider,
    _Span,
)
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from flask_bodytrace import BodyTrace, BusinessIdGenerator, RequestTrace
from flask_bodytrace.flow import plan as plan_module
from flask_bodytrace.otel.fast_path import fast_path
from flask_bodytrace.otel.fast_span import FastSpan
from flask_bodytrace.otel.sampling import UnsampledSpan, trace_for
from flask_bodytrace.settings import Incoming
from flask_bodytrace.trace.current import TRACE_KEY

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN_ID = "00f067aa0ba902b7"
SAMPLERS = [
    ALWAYS_ON,
    ALWAYS_OFF,
    TraceIdRatioBased(0.5),
    ParentBased(ALWAYS_ON),
    ParentBased(ALWAYS_OFF),
    ParentBased(TraceIdRatioBased(0.5)),
    ParentBased(ALWAYS_ON, remote_parent_sampled=TraceIdRatioBased(0.5)),
    ParentBased(ALWAYS_OFF, local_parent_not_sampled=ALWAYS_ON),
]


def _parents() -> Iterator[SpanContext]:
    state = TraceState([("vendor", "value")])
    for trace_id in (1, 2**63 + 1, 2**64 - 1):
        for is_remote in (True, False):
            for flags in range(4):
                yield SpanContext(trace_id, 7, is_remote, TraceFlags(flags), state)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: sampler.get_description())
def test_what_is_predicted_is_what_the_sdk_decides(sampler: Sampler) -> None:
    tracer = TracerProvider(sampler=sampler, shutdown_on_exit=False).get_tracer("test")
    fast, _ = fast_path(tracer)
    assert fast is not None
    for parent in _parents():
        context = trace.set_span_in_context(NonRecordingSpan(parent), Context())
        made = tracer.start_span("sdk", context).get_span_context()
        trace_id, flags, state = trace_for(fast.ids, parent, 0)
        assert fast.samples(parent, trace_id) == made.trace_flags.sampled
        if parent.is_remote:
            hex_digits = trace.format_trace_id(trace_id)
            assert fast.samples_below(hex_digits, parent.trace_flags) == made.trace_flags.sampled
        if not made.trace_flags.sampled:
            mine = UnsampledSpan()
            mine.ids = (trace.format_trace_id(trace_id), "a" * 16, None, flags)
            mine.state = state
            context_of_mine = mine.get_span_context()
            assert context_of_mine.is_valid
            assert context_of_mine == SpanContext(
                made.trace_id, 0xAAAAAAAAAAAAAAAA, False, made.trace_flags, made.trace_state
            )


class _Counting(Sampler):
    """Has to be asked every time, though it only passes on to the SDK's own."""

    def __init__(self) -> None:
        self.asked = 0

    def should_sample(self, *args: object, **kwargs: object) -> object:  # type: ignore[override]
        self.asked += 1
        return ALWAYS_OFF.should_sample(*args, **kwargs)  # type: ignore[arg-type]

    def get_description(self) -> str:
        return "counting"


def _app(
    active: SpanProcessor | None = None, incoming: Incoming = "continue", **provider: object
) -> tuple[Flask, InMemorySpanExporter, TracerProvider]:
    exporter = InMemorySpanExporter()
    made = TracerProvider(shutdown_on_exit=False, **provider)  # type: ignore[arg-type]
    if active is not None:
        made.add_span_processor(active)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    app = Flask(__name__)
    app.config["BODYTRACE_IDS"] = "order.id=orderId"
    BodyTrace(app, tracer_provider=made, incoming=incoming)

    @app.post("/orders/<int:number>")
    def create(number: int) -> dict[str, object]:
        return {"number": number, "order": g.trace.ids.get("order.id")}

    return app, exporter, made


@pytest.mark.parametrize("argument", ["", "0.25"])
@pytest.mark.parametrize(
    "name",
    [
        *("always_on", "always_off", "traceidratio", "parentbased_always_on"),
        *("parentbased_always_off", "parentbased_traceidratio", "unknown"),
    ],
)
def test_every_sampler_that_the_variable_names_is_predictable(
    name: str, argument: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", name)
    if argument:
        monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", argument)
    app, _, provider = _app()
    plan = app.extensions["bodytrace"].plan
    assert plan.fast is not None, plan.why_not_fast
    # Sampled or not, the tracer is never asked.
    monkeypatch.setattr(plan.tracer, "start_span", None)
    answers = {
        app.test_client().post("/orders/1", json={}, headers=headers).status_code
        for headers in ({}, *({"traceparent": f"00-{'1' * 32}-{'2' * 16}-0{f}"} for f in (0, 1)))
    }
    assert answers == {200}
    assert provider.sampler is plan.fast.sampler


def test_a_patched_tracer_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    start_span = Tracer.start_span

    def seeing(self: Tracer, name: str, *args: Any, **kwargs: Any) -> trace.Span:
        started.append(name)
        return start_span(self, name, *args, **kwargs)

    monkeypatch.setattr(Tracer, "start_span", seeing)
    app, exporter, _ = _app()
    app.test_client().post("/orders/1", json={})
    assert started == ["POST"]
    assert [span.name for span in exporter.get_finished_spans()] == ["POST /orders/<int:number>"]


def test_other_samplers_are_asked() -> None:
    sampler = _Counting()
    app, exporter, _ = _app(sampler=sampler)
    app.test_client().post("/orders/1", json={})
    assert sampler.asked == 1
    assert not exporter.get_finished_spans()


@pytest.mark.parametrize("generator", [BusinessIdGenerator, RandomIdGenerator])
@pytest.mark.parametrize("root", [TraceIdRatioBased(0.5), ParentBased(TraceIdRatioBased(0.5))])
def test_the_ratio_of_root_traces_is_kept_and_their_flags_are_the_sdks(
    root: Sampler, generator: Callable[[], RandomIdGenerator]
) -> None:
    app, exporter, _ = _app(sampler=root, id_generator=generator())
    client = app.test_client()
    answered = [int(client.post("/orders/1", json={}).headers["X-Trace-ID"], 16) for _ in range(64)]
    kept = {span.context.trace_id for span in exporter.get_finished_spans()}
    bound = TraceIdRatioBased.get_bound_for_rate(0.5)
    assert kept == {number for number in answered if number & (2**64 - 1) < bound}
    # 64 fair coins all on one side happen once in 2^63 runs.
    assert 0 < len(kept) < 64
    assert len(set(answered)) == 64
    flags = {span.context.trace_flags for span in exporter.get_finished_spans()}
    assert flags == {TraceFlags.SAMPLED | TraceFlags.RANDOM_TRACE_ID}


@pytest.mark.parametrize("flags", ["00", "02", "01", "03"])
@pytest.mark.parametrize("more", [{}, {"tracestate": "vendor=value"}, {"baggage": "a=b"}])
def test_unsampled_requests_have_all_but_the_span(flags: str, more: dict[str, str]) -> None:
    app, exporter, _ = _app()
    headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{flags}", **more}
    response = app.test_client().post("/orders/5", json={"orderId": "ORD1"}, headers=headers)
    assert response.get_json() == {"number": 5, "order": "ORD1"}
    assert response.headers["X-Trace-ID"] == TRACE_ID
    assert response.headers["X-Parent-Span-ID"] == SPAN_ID
    assert len(response.headers["X-Span-ID"]) == 16
    assert response.headers["X-Span-ID"] != SPAN_ID
    assert len(exporter.get_finished_spans()) == int(flags, 16) & 1


class _Onlooker(SpanProcessor):
    def __init__(self) -> None:
        self.seen: list[dict[str, object]] = []
        self.parents: list[SpanContext] = []
        self.ending: list[Span] = []

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        self.seen.append(dict(span.attributes or {}))
        self.parents.append(trace.get_current_span(parent_context).get_span_context())

    def _on_ending(self, span: Span) -> None:
        self.ending.append(span)


def _told(span: ReadableSpan) -> dict[str, object]:
    """All that exporters take from a span but for what differs each time."""
    text = json.loads(span.to_json())
    for each in (text, *text["events"]):
        for name in ("start_time", "end_time", "timestamp"):
            each.pop(name, None)
    text["context"].pop("span_id")
    return {
        **text,
        "type": type(span),
        "attributes": dict(span.attributes or {}),
        "exception": [(event.attributes or {}).get("exception.type") for event in span.events],
        "dropped": (span.dropped_attributes, span.dropped_events, span.dropped_links),
        "scope": span.instrumentation_scope,
        "took": (span.end_time or 0) > (span.start_time or 0) > 0,
        "link": [link.context.span_id for link in span.links],
        "flags": span.context.trace_flags,
    }


@pytest.mark.parametrize("incoming", ["continue", "link", "ignore"])
@pytest.mark.parametrize("most", [None, 3])
def test_spans_are_those_the_sdk_makes(  # noqa: C901 - one small view after the other
    incoming: Incoming, most: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[list[dict[str, object]]] = []
    made: list[set[type]] = []
    for is_fast in (True, False):
        if not is_fast:
            monkeypatch.setattr(plan_module, "fast_path", lambda _tracer: (None, "a test"))
        limits = SpanLimits(max_span_attributes=most, max_events=1)
        onlooker = _Onlooker()
        app, exporter, _ = _app(span_limits=limits, active=onlooker, incoming=incoming)
        types: set[type] = set()
        made.append(types)

        @app.get("/busy")
        def busy(types: set[type] = types) -> str:
            span = g.trace.span
            types.add(type(span))
            span.set_attribute("mine", (1, 2))
            span.set_attributes({"http.response.status_code": 1, "too": "x"})
            span.set_attributes({"texts": ("a", "b"), "none": (), "mixed": ("a", 1)})
            span.set_attributes({"more": ("c",), "less": ("d",)})
            for name in ("first", "second"):
                span.add_event(name, {"exception.type": name})
            span.add_link(SpanContext(1, 2, is_remote=True))
            span.set_status(trace.StatusCode.OK)
            return "busy"

        @app.get("/renamed")
        def renamed() -> str:
            g.trace.span.update_name("mine")
            return "renamed"

        @app.get("/fails")
        def fails() -> str:
            raise ZeroDivisionError

        client = app.test_client()
        headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-03", "tracestate": "vendor=value"}
        for path in ("/busy", "/renamed", "/fails", "/nowhere"):
            client.get(path, headers=headers)
        ended = exporter.get_finished_spans()
        # Trace ids are drawn anew where the caller's is not continued.
        for span in ended:
            assert (span.context.trace_id == int(TRACE_ID, 16)) == (incoming == "continue")
        told.append([_told(span) for span in copy.deepcopy(ended)])
        if incoming != "continue":
            for one in told[-1]:
                one["context"].pop("trace_id")  # type: ignore[attr-defined]
        assert [type(span) for span in ended] == [ReadableSpan] * 4
        assert [span.context for span in onlooker.ending] == [span.context for span in ended]
        assert [context.is_remote for context in onlooker.parents] == [incoming == "continue"] * 4
    assert told[0] == told[1]
    fast, slow = made
    assert all(issubclass(kind, FastSpan) for kind in fast)
    assert slow == {_Span}


def test_a_span_ends_once(caplog: pytest.LogCaptureFixture) -> None:
    app, exporter, _ = _app()

    @app.get("/ended")
    def ended() -> str:
        span = g.trace.span
        span.end()
        assert not span.is_recording()
        span.end()
        span.set_attribute("late", 1)
        span.update_name("late")
        return "ended"

    app.test_client().get("/ended")
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /ended"
    assert "late" not in (span.attributes or {})
    assert "Calling end() on an ended span." in caplog.text


def _attributes(app: Flask, exporter: InMemorySpanExporter) -> dict[str, object]:
    headers = {"Host": "shop.example.com:81", "User-Agent": "test"}
    url = "/orders/5?token=x&a=b"
    app.test_client().post(url, json={"orderId": "ORD1"}, headers=headers)
    return dict(exporter.get_finished_spans()[-1].attributes or {})


def test_attributes_are_the_same_with_and_without_an_onlooker_who_sees_them_at_the_start() -> None:
    app, exporter, provider = _app()
    alone = _attributes(app, exporter)
    onlooker = _Onlooker()
    # One that comes later is noticed too.
    provider.add_span_processor(onlooker)
    assert _attributes(app, exporter) == alone
    assert onlooker.seen[0]["order.id"] == "ORD1"
    assert {"http.route", "http.response.status_code", "url.query"} <= alone.keys()
    assert "token=x" not in str(alone)


@pytest.mark.parametrize(
    "limits", [SpanLimits(max_span_attributes=4), SpanLimits(max_span_attribute_length=3)]
)
def test_the_limits_of_spans_hold(limits: SpanLimits) -> None:
    app, exporter, _ = _app(span_limits=limits)
    attributes = _attributes(app, exporter)
    if limits.max_span_attributes == 4:
        assert len(attributes) == 4
    else:
        assert max(len(value) for value in attributes.values() if isinstance(value, str)) == 3


def test_what_runs_when_a_response_is_closed_runs_in_its_request() -> None:
    app, _, _ = _app()
    current: list[str] = []

    def note() -> None:
        current.append(format(trace.get_current_span().get_span_context().trace_id, "032x"))

    @app.get("/closing")
    def closing() -> Response:
        response = Response("complete")
        response.call_on_close(note)
        return response

    with app.test_client().get("/closing") as response:
        assert response.headers["X-Trace-ID"] not in current
    assert current == [response.headers["X-Trace-ID"]]


def test_a_request_dispatched_by_hand_in_another_leaves_that_one_open() -> None:
    app, exporter, _ = _app()

    @app.get("/plain")
    def plain() -> str:
        return "plain"

    @app.get("/outer")
    def outer() -> dict[str, bool]:
        with app.test_request_context("/plain"):
            app.full_dispatch_request().close()
        return {"recording": g.trace.span.is_recording()}

    assert app.test_client().get("/outer").get_json() == {"recording": True}
    assert [span.name for span in exporter.get_finished_spans()] == ["GET /outer"]


def test_nothing_of_a_request_waits_for_the_garbage_collector() -> None:
    app, _, _ = _app()
    kept: list[weakref.ref[object]] = []

    @app.get("/kept")
    def keep() -> str:
        kept.append(weakref.ref(request.environ[TRACE_KEY]))
        kept.append(weakref.ref(g.trace.body))
        return "kept"

    gc.collect()
    gc.disable()
    try:
        for flags in ("00", "01"):
            headers = {"traceparent": f"00-{TRACE_ID}-{SPAN_ID}-{flags}"}
            app.test_client().get("/kept", headers=headers).close()
        assert [reference() for reference in kept] == [None] * 4
    finally:
        gc.enable()


def test_a_kept_trace_still_knows_what_to_send_on() -> None:
    app, _, _ = _app()
    kept: list[RequestTrace] = []

    @app.get("/kept")
    def keep() -> str:
        kept.append(g.trace)
        return "kept"

    response = app.test_client().get("/kept", headers={"baggage": "a=b"})
    response.close()
    (kept_trace,) = kept
    sent = kept_trace.headers()
    assert sent["traceparent"].split("-")[1:3] == [
        response.headers["X-Trace-ID"],
        response.headers["X-Span-ID"],
    ]
    assert sent["baggage"] == "a=b"
