"""OTLP's metrics: bytes to points of series. Pure, and all or nothing, as `otlp` is."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from . import display
from .metrics import GAUGE, HISTOGRAM, SUM, Measured, Origin, Point
from .model import Attributes
from .otlp_values import (
    BadRequest,
    Camel,
    KeyValue,
    ProtobufMissing,
    ReadValue,
    Resource,
    Scope,
    decode,
    double,
    integer,
    json_value,
    protobuf_value,
    read_attributes,
    read_nanos,
    read_resource,
    read_scope,
)

_DELTA = 1
_NOTHING_RECORDED = 1
"""A flag of a point: the series ended, there is no value."""
_MAX_BUCKETS = 1_000
_MAX_TEXT = 256
"""Characters of a value that tell one series from another."""
_LARGEST = (1 << 64) - 1


class _Point(Camel, frozen=True):
    """The points of every kind: each kind has some of the fields."""

    attributes: list[KeyValue] | None = None
    start_time_unix_nano: int | str = 0
    time_unix_nano: int | str = 0
    flags: int = 0
    as_int: int | str | None = None
    as_double: float | str | None = None
    count: int | str = 0
    bucket_counts: list[int | str] | None = None
    explicit_bounds: list[float | str] | None = None
    scale: int = 0
    zero_count: int | str = 0
    positive: _Buckets | None = None
    negative: _Buckets | None = None


class _Buckets(Camel, frozen=True):
    offset: int = 0
    bucket_counts: list[int | str] | None = None


class _Data(Camel, frozen=True):
    data_points: list[_Point] | None = None
    aggregation_temporality: int = 0
    is_monotonic: bool = False


class _Metric(Camel, frozen=True):
    name: str = ""
    unit: str = ""
    gauge: _Data | None = None
    sum: _Data | None = None
    histogram: _Data | None = None
    exponential_histogram: _Data | None = None
    summary: _Data | None = None


class _ScopeMetrics(Camel, frozen=True):
    scope: Scope | None = None
    metrics: list[_Metric] | None = None


class _ResourceMetrics(Camel, frozen=True):
    resource: Resource | None = None
    scope_metrics: list[_ScopeMetrics] | None = None


class _Request(Camel, frozen=True):
    resource_metrics: list[_ResourceMetrics] | None = None


_json = msgspec.json.Decoder(_Request)
_KINDS = {
    "gauge": GAUGE,
    "sum": SUM,
    "histogram": HISTOGRAM,
    "exponential_histogram": HISTOGRAM,
    "summary": HISTOGRAM,
}


def metrics_from_json(data: bytes) -> list[Measured]:
    """The points of an ExportMetricsServiceRequest in JSON.

    :raises BadRequest: anything in it is malformed.
    """
    request = decode(lambda: _json.decode(data))
    return list(_measured(request, json_value, _json_kind, _json_number))


def metrics_from_protobuf(data: bytes) -> list[Measured]:
    """The points of an ExportMetricsServiceRequest in protobuf.

    :raises BadRequest: anything in it is malformed.
    :raises ProtobufMissing: opentelemetry-proto is not installed.
    """
    try:
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
            ExportMetricsServiceRequest,
        )
    except ImportError:
        raise ProtobufMissing from None
    request = decode(lambda: ExportMetricsServiceRequest.FromString(data))
    return list(_measured(request, protobuf_value, _protobuf_kind, _protobuf_number))


def _json_kind(metric: _Metric) -> str | None:
    return next((kind for kind in _KINDS if getattr(metric, kind) is not None), None)


def _protobuf_kind(metric: Any) -> str | None:
    kind: str | None = metric.WhichOneof("data")
    return kind


def _json_number(point: _Point) -> float | None:
    if point.as_int is not None:
        return _whole(point.as_int, least=-_LARGEST)
    return None if point.as_double is None else double(point.as_double)


def _protobuf_number(point: Any) -> float | None:
    kind = point.WhichOneof("value")
    if kind is None:
        return None
    number: float = getattr(point, kind)
    return number


def _measured(request: Any, read: ReadValue, kind_of: Any, number_of: Any) -> Iterator[Measured]:
    for resource_metrics in request.resource_metrics or ():
        resource, service = read_resource(resource_metrics.resource, read)
        known = json.dumps(resource, default=display.text, sort_keys=True)
        for scope_metrics in resource_metrics.scope_metrics or ():
            who = f"{read_scope(scope_metrics.scope)} {known}"
            for metric in scope_metrics.metrics or ():
                kind = kind_of(metric)
                if kind is None:
                    continue
                data = getattr(metric, kind)
                # Summaries have no temporality of their own: they count from the start.
                delta = getattr(data, "aggregation_temporality", 0) == _DELTA
                for each in data.data_points or ():
                    point = _point(kind, each, number_of)
                    if point is None:
                        continue
                    origin = Origin(
                        service=service,
                        name=metric.name,
                        unit=metric.unit,
                        kind=_KINDS[kind],
                        grows=kind == "sum" and data.is_monotonic,
                        delta=delta,
                        since=0 if delta or kind == "gauge" else point.start,
                        attributes=_told_apart(read_attributes(each.attributes, read)),
                        resource=who,
                    )
                    yield origin, point


def _told_apart(attributes: Attributes) -> tuple[tuple[str, str], ...]:
    found = [(name, display.text(value)[:_MAX_TEXT]) for name, value in attributes.items()]
    return tuple(sorted(found))


def _point(kind: str, point: Any, number_of: Any) -> Point | None:
    """None for one that says nothing."""
    start, time = read_nanos(point.start_time_unix_nano), read_nanos(point.time_unix_nano)
    if kind in {"gauge", "sum"}:
        value = number_of(point)
        found = None if value is None or not math.isfinite(value) else Point(start, time, value)
    else:
        count = _whole(point.count)
        if kind == "histogram":
            bounds, counts = _buckets(point)
        elif kind == "exponential_histogram":
            bounds, counts = _exponential(point)
        else:
            bounds, counts = (), ()
        found = Point(start, time, count, bounds, counts)
    return None if not time or point.flags & _NOTHING_RECORDED else found


def _whole(value: int | str, least: int = 0) -> int:
    number = integer(value) if isinstance(value, str) else value
    if not least <= number <= _LARGEST:
        raise BadRequest("a count outside of 64 bits")
    return number


def _counts(values: Sequence[int | str] | None) -> list[int]:
    found = [_whole(value) for value in values or ()]
    if len(found) > _MAX_BUCKETS:
        raise BadRequest(f"a histogram of more than {_MAX_BUCKETS} buckets")
    return found


def _buckets(point: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    counts = _counts(point.bucket_counts)
    bounds = tuple(double(bound) for bound in point.explicit_bounds or ())
    if counts and len(counts) != len(bounds) + 1:
        raise BadRequest(f"a histogram of {len(bounds)} bounds and {len(counts)} buckets")
    if not all(map(math.isfinite, bounds)) or any(a >= b for a, b in itertools.pairwise(bounds)):
        raise BadRequest("a histogram whose bounds do not ascend")
    return (bounds, tuple(counts)) if counts else ((), ())


def _exponential(point: Any) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The buckets with bounds as those of any histogram; the data model says where they are."""
    if point.scale > 20 or point.scale < -10:
        raise BadRequest(f"a histogram of scale {point.scale}")
    found: Counter[float] = Counter()
    above, below = point.positive, point.negative
    for number, count in enumerate(_counts(above.bucket_counts if above else None)):
        found[_bound(point.scale, above.offset + number + 1)] += count
        found[_bound(point.scale, above.offset)] += 0
    for number, count in enumerate(_counts(below.bucket_counts if below else None)):
        found[-_bound(point.scale, below.offset + number)] += count
        found[-_bound(point.scale, below.offset + number + 1)] += 0
    zeros = _whole(point.zero_count)
    if zeros:
        # What is as small as zero is below the least bucket above it.
        found[min((bound for bound in found if bound > 0), default=0.0)] += zeros
    bounds = tuple(sorted(found))
    return bounds, (*(found[bound] for bound in bounds), 0)


def _bound(scale: int, index: int) -> float:
    """The lower bound of a bucket: ``2 ** (index / 2 ** scale)``."""
    try:
        return float(2.0 ** (index * 2.0**-scale))
    except OverflowError:
        raise BadRequest("a bucket beyond all numbers") from None
