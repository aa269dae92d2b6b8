"""OTLP's metrics: every kind of point, in protobuf and in JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from flask_bodytrace.viewer.metrics import Measured, Point
from flask_bodytrace.viewer.otlp import BadRequest
from flask_bodytrace.viewer.otlp_metrics import metrics_from_json, metrics_from_protobuf


def request_of(*metrics: Metric) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    name = KeyValue(key="service.name", value=AnyValue(string_value="orders"))
    resource.resource.attributes.append(name)
    resource.scope_metrics.add(metrics=metrics)
    return request


def both(*metrics: Metric) -> list[Measured]:
    """The points, read from protobuf, which are the same as those read from JSON."""
    request = request_of(*metrics)
    found = metrics_from_protobuf(request.SerializeToString())
    as_json = json_format.MessageToJson(request, use_integers_for_enums=True)
    assert metrics_from_json(as_json.encode()) == found
    return found


def metric(kind: str, point: dict[str, Any], **data: Any) -> Metric:
    made = Metric(name="m", unit="s")
    target = getattr(made, kind)
    for name, value in data.items():
        setattr(target, name, value)
    target.data_points.add(**{"start_time_unix_nano": 5, "time_unix_nano": 9, **point})
    return made


@pytest.mark.parametrize(
    ("made", "kind", "point"),
    [
        (metric("gauge", {"as_int": -7}), "gauge", Point(5, 9, -7)),
        (metric("gauge", {"as_double": 0.5}), "gauge", Point(5, 9, 0.5)),
        (metric("gauge", {"as_int": 0}), "gauge", Point(5, 9, 0)),
        (metric("sum", {"as_int": 1 << 60}), "sum", Point(5, 9, 1 << 60)),
        (metric("summary", {"count": 4}), "histogram", Point(5, 9, 4)),
        (
            metric("histogram", {"count": 3, "bucket_counts": [1, 2], "explicit_bounds": [0.25]}),
            "histogram",
            Point(5, 9, 3, (0.25,), (1, 2)),
        ),
        (metric("histogram", {"count": 3}), "histogram", Point(5, 9, 3)),
    ],
    ids=["whole", "real", "zero", "sum", "summary", "histogram", "no buckets"],
)
def test_each_kind_says_what_it_holds(made: Metric, kind: str, point: Point) -> None:
    ((origin, found),) = both(made)
    assert (origin.service, origin.name, origin.unit, origin.kind) == ("orders", "m", "s", kind)
    assert found == point


@pytest.mark.parametrize(
    ("kind", "data", "grows", "delta", "since"),
    [
        ("sum", {"is_monotonic": True, "aggregation_temporality": 2}, True, False, 5),
        ("sum", {"is_monotonic": False, "aggregation_temporality": 2}, False, False, 5),
        ("sum", {"is_monotonic": True, "aggregation_temporality": 1}, True, True, 0),
        ("gauge", {}, False, False, 0),
    ],
)
def test_what_a_number_counts_from(
    kind: str, data: dict[str, Any], grows: bool, delta: bool, since: int
) -> None:
    ((origin, _),) = both(metric(kind, {"as_int": 1}, **data))
    assert (origin.grows, origin.delta, origin.since) == (grows, delta, since)


def test_buckets_of_an_exponential_histogram_are_where_the_data_model_has_them() -> None:
    point = {
        "count": 10,
        "scale": 0,
        "zero_count": 3,
        "positive": {"offset": 1, "bucket_counts": [2, 0, 4]},
        "negative": {"offset": 0, "bucket_counts": [1]},
    }
    ((_, found),) = both(metric("exponential_histogram", point))
    # Scale 0: buckets (2, 4], (4, 8], (8, 16], and [-2, -1); zeros are below the least.
    assert dict(zip(found.bounds, found.counts, strict=False)) == {
        -2: 0, -1: 1, 2: 3, 4: 2, 8: 0, 16: 4,
    }  # fmt: skip
    assert (sum(found.counts), found.value) == (10, 10)
    ((_, finer),) = both(metric("exponential_histogram", {**point, "count": 1, "scale": 1}))
    assert finer.bounds[-1] == pytest.approx(2 ** (4 / 2))


def test_points_that_say_nothing_are_none() -> None:
    assert (
        both(
            metric("gauge", {"as_int": 1, "flags": 1}),
            metric("gauge", {"as_double": float("nan")}),
            metric("gauge", {"as_double": float("inf")}),
            metric("gauge", {}),
            metric("gauge", {"as_int": 1, "time_unix_nano": 0}),
            Metric(name="empty"),
        )
        == []
    )


def test_attributes_and_processes_make_series_of_their_own() -> None:
    origins = set()
    for route in ("/a", "/b"):
        for pid in (1, 2):
            request = request_of(metric("sum", {"as_int": 1}))
            resource = request.resource_metrics[0]
            resource.resource.attributes.add(key="process.pid", value=AnyValue(int_value=pid))
            point = resource.scope_metrics[0].metrics[0].sum.data_points[0]
            point.attributes.add(key="http.route", value=AnyValue(string_value=route))
            ((origin, _),) = metrics_from_protobuf(request.SerializeToString())
            assert origin.attributes == (("http.route", route),)
            origins.add(origin)
    assert len(origins) == 4


@pytest.mark.parametrize(
    "made",
    [
        metric("histogram", {"count": 1, "bucket_counts": [1, 2], "explicit_bounds": []}),
        metric("histogram", {"count": 1, "bucket_counts": [1, 2, 3], "explicit_bounds": [2, 1]}),
        metric("histogram", {"bucket_counts": [1, 2], "explicit_bounds": [float("nan")]}),
        metric("histogram", {"bucket_counts": [0] * 2001, "explicit_bounds": list(range(2000))}),
        metric("exponential_histogram", {"scale": 99}),
        metric(
            "exponential_histogram",
            {"scale": -10, "positive": {"offset": 9, "bucket_counts": [1]}},
        ),
    ],
    ids=["no bounds", "falling", "nan", "buckets", "scale", "beyond"],
)
def test_a_histogram_that_is_none_refuses_the_whole_request(made: Metric) -> None:
    request = request_of(metric("gauge", {"as_int": 1}), made)
    with pytest.raises(BadRequest):
        metrics_from_protobuf(request.SerializeToString())


@pytest.mark.parametrize(
    "change",
    [
        {"timeUnixNano": "soon"},
        {"timeUnixNano": 1 << 64},
        {"asInt": "x"},
        {"asInt": 1 << 70},
        {"asDouble": "x"},
        {"attributes": "none"},
    ],
)
def test_one_wrong_field_refuses_the_whole_request(change: dict[str, Any]) -> None:
    points = [{"timeUnixNano": 1, "asInt": 1}, {"timeUnixNano": 1, **change}]
    metrics = [{"name": "m", "gauge": {"dataPoints": points}}]
    data = {"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}
    with pytest.raises(BadRequest):
        metrics_from_json(json.dumps(data).encode())


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_byte_that_is_another_is_refused_or_read(place: int, byte: int) -> None:
    whole = bytearray(
        request_of(
            metric("histogram", {"count": 3, "bucket_counts": [1, 2], "explicit_bounds": [0.25]}),
            metric("exponential_histogram", {"positive": {"offset": 1, "bucket_counts": [2]}}),
            metric("sum", {"as_double": 3}),
        ).SerializeToString()
    )
    whole[place % len(whole)] = byte
    try:
        for _, point in metrics_from_protobuf(bytes(whole)):
            assert len(point.counts) in {0, len(point.bounds) + 1}
    except BadRequest:
        pass
