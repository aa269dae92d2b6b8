from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from flask_bodytrace.viewer import otlp, otlp_metrics, otlp_writer
from flask_bodytrace.viewer.model import Event, Link
from flask_bodytrace.viewer.otlp import BadRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
SPAN = "00f067aa0ba902b7"


def request_json(**span: Any) -> bytes:
    whole = {"traceId": TRACE, "spanId": SPAN, "name": "n", **span}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [whole]}]}]}).encode()


def request_protobuf() -> bytes:
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(
        KeyValue(key="service.name", value=AnyValue(string_value="orders"))
    )
    scope = resource.scope_spans.add()
    scope.scope.name, scope.scope.version = "lib", "1.0"
    span = scope.spans.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        parent_span_id=bytes.fromhex("b7ad6b7169203331"),
        name="POST /orders",
        kind=2,
        start_time_unix_nano=5,
        end_time_unix_nano=9,
        dropped_attributes_count=3,
    )
    span.status.CopyFrom(Status(code=Status.STATUS_CODE_ERROR, message="no"))
    nested = KeyValueList(values=[KeyValue(key="a", value=AnyValue(int_value=1))])
    for key, value in {
        "text": AnyValue(string_value="ORD1"),
        "flag": AnyValue(bool_value=False),
        "number": AnyValue(int_value=-3),
        "real": AnyValue(double_value=0.5),
        "bytes": AnyValue(bytes_value=b"\x00\xff"),
        "list": AnyValue(array_value=ArrayValue(values=[AnyValue(string_value="x")])),
        "map": AnyValue(kvlist_value=nested),
        "nothing": AnyValue(),
    }.items():
        span.attributes.append(KeyValue(key=key, value=value))
    span.events.add(name="reserved", time_unix_nano=7)
    span.links.add(trace_id=bytes.fromhex(TRACE), span_id=bytes.fromhex(SPAN))
    return request.SerializeToString()


def test_protobuf_says_all_it_holds() -> None:
    (span,) = otlp.spans_from_protobuf(request_protobuf())
    assert (span.trace_id, span.span_id, span.parent_id) == (TRACE, SPAN, "b7ad6b7169203331")
    assert (span.service, span.scope, span.name, span.kind) == (
        "orders",
        "lib 1.0",
        "POST /orders",
        2,
    )
    assert (span.start, span.end, span.failed, span.status_message) == (5, 9, True, "no")
    assert span.dropped == 3
    assert span.attributes == {
        "text": "ORD1",
        "flag": False,
        "number": -3,
        "real": 0.5,
        "bytes": b"\x00\xff",
        "list": ["x"],
        "map": {"a": 1},
        "nothing": None,
    }
    assert span.events == [Event("reserved", 7, {})]
    assert span.links == [Link(TRACE, SPAN, {})]


def test_our_json_reads_back_as_the_same_spans() -> None:
    (span,) = otlp.spans_from_protobuf(request_protobuf())
    (again,) = otlp.spans_from_json(otlp_writer.to_json([span]).encode())
    for field in span.__struct_fields__:
        if field != "dropped":  # a count of what the service left out, not carried on
            assert getattr(again, field) == getattr(span, field), field


def test_json_of_the_specification() -> None:
    # opentelemetry-proto's examples/trace.json, in short.
    (span,) = otlp.spans_from_json(
        request_json(
            traceId="5B8EFFF798038103D269B633813FC60C",
            spanId="EEE19B7EC3C1B174",
            parentSpanId="EEE19B7EC3C1B173",
            startTimeUnixNano="1544712660000000000",
            endTimeUnixNano=1544712661000000000,
            kind=2,
            unknownField={"is": "ignored"},
            attributes=[{"key": "n", "value": {"intValue": "12"}}],
        )
    )
    assert span.trace_id == "5b8efff798038103d269b633813fc60c"
    assert span.duration == 10**9
    assert span.attributes == {"n": 12}


@pytest.mark.parametrize(
    "change",
    [
        {"traceId": ""},
        {"traceId": "0" * 32},
        {"traceId": TRACE[:-1]},
        {"traceId": TRACE + "0"},
        {"traceId": "zz" * 16},
        {"traceId": " ".join([TRACE[:16], TRACE[16:]])},
        {"spanId": "0" * 16},
        {"spanId": TRACE},
        {"parentSpanId": "12"},
        {"links": [{"traceId": "12", "spanId": SPAN}]},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": -1},
        {"endTimeUnixNano": 1 << 64},
        {"endTimeUnixNano": "9" * 5000},
        {"name": 5},
        {"attributes": [{"key": "n", "value": {"intValue": "x"}}]},
        {"attributes": [{"key": "n", "value": {"doubleValue": "x"}}]},
        {"attributes": [{"key": "n", "value": {"bytesValue": "A"}}]},
        {"attributes": "none"},
    ],
)
def test_one_wrong_field_refuses_the_whole_request(change: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        otlp.spans_from_json(request_json(**change))


@pytest.mark.parametrize("field", ["trace_id", "span_id", "parent_span_id"])
def test_wrong_ids_in_protobuf(field: str) -> None:
    request = ExportTraceServiceRequest.FromString(request_protobuf())
    setattr(request.resource_spans[0].scope_spans[0].spans[0], field, b"12345")
    with pytest.raises(BadRequest):
        otlp.spans_from_protobuf(request.SerializeToString())


def test_truncated_protobuf() -> None:
    whole = request_protobuf()
    for length in range(1, len(whole)):
        with pytest.raises(BadRequest):
            otlp.spans_from_protobuf(whole[:length])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"resourceSpans": 5}',
        b"\xff",
        b'{"a": "\\ud800"}',
        b"[" * 10**5,
    ],
)
def test_what_is_no_request_in_json(data: bytes) -> None:
    with pytest.raises(BadRequest):
        otlp.spans_from_json(data)


def test_deep_values_are_cut_not_followed() -> None:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(60):
        value = {"arrayValue": {"values": [value]}}
    (span,) = otlp.spans_from_json(request_json(attributes=[{"key": "k", "value": value}]))
    assert "deep" not in str(span.attributes)
    text = '{"arrayValue":{"values":[' * 20_000
    with pytest.raises(BadRequest):
        otlp.spans_from_json(
            b'{"resourceSpans":[{"resource":{"attributes":[{"key":"k","value":' + text.encode()
        )


def test_log_records_keep_their_span_and_others_have_none() -> None:
    request = ExportLogsServiceRequest()
    scope = request.resource_logs.add().scope_logs.add()
    scope.log_records.add(
        trace_id=bytes.fromhex(TRACE),
        span_id=bytes.fromhex(SPAN),
        severity_text="WARN",
        severity_number=13,
        observed_time_unix_nano=8,
        body=AnyValue(string_value="low stock"),
    )
    scope.log_records.add(body=AnyValue(string_value="of no trace"))
    log, other = otlp.logs_from_protobuf(request.SerializeToString())
    assert (other.trace_id, other.span_id, other.body) == ("", None, "of no trace")
    assert (log.trace_id, log.span_id, log.time, log.severity, log.body) == (
        TRACE, SPAN, 8, "WARN", "low stock",
    )  # fmt: skip
    sent = {"traceId": TRACE, "spanId": SPAN, "body": {"stringValue": "low"}, "timeUnixNano": "3"}
    data = json.dumps({"resourceLogs": [{"scopeLogs": [{"logRecords": [sent]}]}]}).encode()
    assert otlp.logs_from_json(data)[0].body == "low"


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=200),
    st.sampled_from(
        [
            otlp.spans_from_json,
            otlp.spans_from_protobuf,
            otlp.logs_from_json,
            otlp.logs_from_protobuf,
            otlp_metrics.metrics_from_json,
            otlp_metrics.metrics_from_protobuf,
        ]
    ),
)
def test_noise_is_refused_or_read_and_nothing_else(
    data: bytes, read: Callable[[bytes], list[Any]]
) -> None:
    with contextlib.suppress(BadRequest):
        read(data)
