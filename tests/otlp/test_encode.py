"""What is encoded is, decoded with the official classes, what the official encoder writes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.attributes import BoundedAttributes
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from flask_bodytrace.otel import span_fields
from flask_bodytrace.otlp import encode as encode_module
from flask_bodytrace.otlp.attributes import MAX_KEYS, MAX_VALUES
from flask_bodytrace.otlp.encode import SpanEncoder
from flask_bodytrace.otlp.exporter import OTLPSpanExporter, _official_span

EXAMPLES = 20_000 if os.environ.get("BODYTRACE_SOAK") else 120

texts = st.text(st.characters(codec="utf-8"), max_size=40)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.floats(),
    texts,
    st.binary(max_size=40),
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=3)
)
attributes = st.dictionaries(texts.filter(bool), values, max_size=6)
states = st.sampled_from([None, TraceState(), TraceState([("a", "1"), ("vendor", "x y")])])
contexts = st.builds(
    SpanContext,
    st.integers(1, 2**128 - 1),
    st.integers(1, 2**64 - 1),
    st.booleans(),
    st.sampled_from([TraceFlags(0), TraceFlags(1), TraceFlags(3)]),
    states,
)
times = st.none() | st.integers(0, 2**63)
counts = st.integers(0, 3)


def bounded(given_attributes: dict[str, Any], most: int | None) -> BoundedAttributes:
    return BoundedAttributes(most, given_attributes, immutable=True)


held = st.builds(bounded, attributes, st.sampled_from([None, 1, 128]))
events = st.lists(st.builds(Event, texts, held, st.integers(0, 2**63)), max_size=3)
links = st.lists(st.builds(Link, contexts, held), max_size=3)
statuses = st.builds(Status, st.just(StatusCode.ERROR), texts) | st.builds(
    Status, st.sampled_from([StatusCode.UNSET, StatusCode.OK])
)
resources = st.builds(Resource, st.dictionaries(texts.filter(bool), texts, max_size=2), texts)
scopes = st.none() | st.builds(
    InstrumentationScope,
    texts,
    st.none() | texts,
    texts,
    st.dictionaries(texts.filter(bool), texts),
)
spans = st.builds(
    ReadableSpan,
    texts,
    contexts,
    st.none() | contexts,
    resources,
    held | attributes,
    events,
    links,
    st.sampled_from(list(SpanKind)),
    status=statuses,
    start_time=times,
    end_time=times,
    instrumentation_scope=scopes,
)


@pytest.fixture(params=["fields", "properties"])
def encoder(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> SpanEncoder:
    """Reading spans either way."""
    if request.param == "properties":
        monkeypatch.setattr(encode_module, "read", span_fields.read_public)
    return SpanEncoder(_official_span)


def decoded(data: bytes) -> ExportTraceServiceRequest:
    message = ExportTraceServiceRequest()
    message.ParseFromString(data)
    return message


@given(batch=st.lists(spans, max_size=4))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_any_batch_decodes_to_the_official_encoders(
    encoder: SpanEncoder, batch: list[ReadableSpan]
) -> None:
    official = encode_spans(batch)
    for _ in range(2):
        # Not ==: a NaN is not equal to itself.
        mine = decoded(encoder.request(batch))
        assert str(mine) == str(official)
        assert mine.SerializeToString(deterministic=True) == official.SerializeToString(
            deterministic=True
        )


Make = Callable[..., ReadableSpan]


@pytest.fixture
def make() -> Make:
    """Make a real span through the SDK."""

    def made(name: Any = "span", given_attributes: Any = None, **limits: Any) -> ReadableSpan:
        exporter = InMemorySpanExporter()
        provider = TracerProvider(shutdown_on_exit=False, span_limits=SpanLimits(**limits))
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        span = provider.get_tracer("test", "1").start_span(name, attributes=given_attributes)
        for number in range(3):
            span.add_event(f"event {number}", {"a": number, "b": "x"})
            span.add_link(SpanContext(number + 1, 1, is_remote=True), {"c": 1})
        span.end()
        (ended,) = exporter.get_finished_spans()
        return ended

    return made


def test_what_limits_dropped_is_counted(encoder: SpanEncoder, make: Make) -> None:
    span = make("name", {"a": 1, "b": 2}, max_events=1, max_links=2, max_event_attributes=1)
    assert decoded(encoder.request([span])) == encode_spans([span])
    (encoded,) = decoded(encoder.request([span])).resource_spans[0].scope_spans[0].spans
    assert (encoded.dropped_events_count, encoded.dropped_links_count) == (2, 1)
    assert encoded.events[0].dropped_attributes_count == 1


def test_equal_values_of_different_types_stay_apart(encoder: SpanEncoder, make: Make) -> None:
    plain = (1, True, 1.0, 0, False, 0.0, -0.0, "1", b"1")
    for value in (*plain, *((each,) for each in plain), ("1", "1"), (), ("x" * 300,), "x" * 300):
        span = make("name", {"value": value})
        assert decoded(encoder.request([span])) == encode_spans([span])


class Text(str):
    """A subclass of a type that is known."""

    __slots__ = ()


@pytest.mark.parametrize(
    "odd",
    [
        {"huge": 2**64},
        {"hugely negative": -(2**63) - 1},
        {"surrogate": "\ud800"},
        {"\ud800": "surrogate"},
        {"nested": ["ok", {"surrogate": ["\udfff"]}]},
        {"nan": float("nan"), "inf": float("-inf")},
        {"mega": "x" * 3_000_000},
        {"sub": Text("class"), "kind": SpanKind.SERVER, "set": {1}},
        {"deep": [[[[[[[[[[1]]]]]]]]]]},
    ],
    ids=lambda odd: next(iter(odd)).encode("ascii", "replace").decode(),
)
def test_odd_values_are_as_the_official_encoder_has_them(
    encoder: SpanEncoder, make: Make, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    span = make("name", {"good": 1, **odd})
    other = make("other")
    mine = decoded(encoder.request([other, span, other]))
    assert str(mine) == str(encode_spans([other, span, other]))
    assert encoder.left_out == 0


@pytest.mark.parametrize("name", ["\ud800", 5])
def test_a_span_that_nobody_can_encode_is_left_out_alone_and_said_once(
    encoder: SpanEncoder, make: Make, caplog: pytest.LogCaptureFixture, name: Any
) -> None:
    bad, good = make(name), make("good")
    for _ in range(3):
        mine = decoded(encoder.request([good, bad, good]))
        assert mine == encode_spans([good, good])
    assert encoder.left_out == 3
    assert len([each for each in caplog.records if "left out" in each.getMessage()]) == 1


Scope = InstrumentationScope
ODD: Any = b"shop"
"""What protobuf takes for text as well."""
NUMBER: Any = 1
"""What it does not: `get_tracer("shop", 1)`."""


def of(name: str, scope: Any = None, resource: Any = None) -> ReadableSpan:
    return ReadableSpan(
        name,
        SpanContext(1, 2, is_remote=False),
        resource=resource or Resource({"a": 1}),
        instrumentation_scope=scope or Scope("good"),
    )


@pytest.mark.parametrize(
    "bad",
    [
        {"scope": Scope("shop", NUMBER)},
        {"scope": Scope("\ud800")},
        {"scope": Scope("shop", "1", "\ud800")},
        {"scope": "shop"},
        {"resource": Resource({"b": 1}, "\ud800")},
        {"resource": {"b": 1}},
    ],
)
def test_a_scope_or_resource_that_nobody_can_encode_costs_its_own_spans(
    encoder: SpanEncoder, bad: dict[str, Any]
) -> None:
    for batch in ([of("bad", **bad), of("a"), of("b")], [of("a"), of("bad", **bad), of("b")]):
        assert decoded(encoder.request(batch)) == encode_spans([of("a"), of("b")])
    assert encoder.left_out == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"scope": Scope(ODD, "1", "https://url", {"a": 1})},
        {"scope": Scope("shop", ODD)},
        {"scope": Scope("shop", "1", ODD)},
        {"resource": Resource({"b": 1, "text": "shop"}, ODD)},
        {"scope": Scope(ODD), "resource": Resource({"b": 1}, ODD)},
    ],
)
def test_an_odd_scope_or_resource_is_as_the_official_encoder_has_it(
    encoder: SpanEncoder, odd: dict[str, Any]
) -> None:
    batch = [of("a"), of("odd", **odd), of("odd too", **odd), of("b")]
    assert decoded(encoder.request(batch)) == encode_spans(batch)
    assert encoder.left_out == 0


def test_what_is_kept_is_bounded_whatever_the_cardinality() -> None:
    encoder = SpanEncoder(_official_span)
    for number in range(MAX_KEYS * 3):
        attributes_of_one = {"order.id": f"ORD{number}", f"key{number}": "x", "port": number}
        fields = (1, 2, None, None, f"name {number}", SpanKind.SERVER, 1, 2, attributes_of_one)
        encoder.span((*fields, 0, (), 0, (), 0, Status()))
    assert len(encoder._names) <= MAX_KEYS
    kept = encoder.attributes
    assert len(kept.texts) <= MAX_KEYS
    assert len(kept.numbers) <= MAX_KEYS
    assert all(len(values) <= MAX_VALUES for values, *_ in kept.texts.values())
    assert all(len(values) <= MAX_VALUES for values, *_ in kept.numbers.values())
    for number in range(200):
        encoder._resource(Resource({"n": number}))
        encoder._scope(InstrumentationScope(str(number)))
    assert len(encoder._resources) <= 64
    assert len(encoder._scopes) <= 64


def test_the_exporter_finds_its_encoder_right() -> None:
    assert OTLPSpanExporter().reason == ""
