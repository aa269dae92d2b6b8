"""Log records and metrics in the store: within bounds, and from real exporters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.kept_store import KeptStore
from flask_bodytrace.viewer.metric_store import MetricStore
from flask_bodytrace.viewer.metrics import Measured, Origin, Point
from flask_bodytrace.viewer.model import LogRecord, Span, weigh
from flask_bodytrace.viewer.store import Limits, TraceStore
from tests.viewer.running import RunningViewer as Viewer

RESOURCE = Resource({"service.name": "python-shop"})


def log_record(number: int = 0, body: str = "low", trace: str = "") -> LogRecord:
    return LogRecord(trace, None, number, "WARN", 13, body, "shop", "", {})


def measured(name: str = "m", time: int = 1, *, buckets: int = 0) -> Measured:
    origin = Origin("shop", name, "s", "histogram", False, False, 0, (), "")
    bounds = tuple(float(number) for number in range(buckets))
    return origin, Point(0, time, 1, bounds, (1,) * (buckets + 1) if buckets else ())


def test_over_its_bytes_the_log_record_that_came_first_goes() -> None:
    one = weigh(log_record())
    store = TraceStore(Limits(logs=3 * one))
    for number in range(5):
        store.add((), [log_record(number)])
    assert [entry.record.time for entry in store.logs()] == [2, 3, 4]
    assert [entry.number for entry in store.logs()] == [3, 4, 5]
    # One that is larger than all there is room for takes nothing with it.
    store.add((), [log_record(9, "x" * 4 * one)])
    assert [entry.record.time for entry in store.logs()] == [2, 3, 4]
    store.add((), [log_record(9, "x" * 2 * one)])
    assert [entry.record.time for entry in store.logs()] == [9]


def test_a_log_record_of_no_trace_makes_none(make_span: Callable[..., Span]) -> None:
    store = TraceStore()
    store.add((), [log_record()])
    assert (store.trace_count, len(store), len(store.logs())) == (0, 0, 1)
    span = make_span()
    store.add([span], [log_record(trace=span.trace_id)])
    trace = store.trace(span.trace_id)
    assert trace is not None
    assert len(trace.logs) == 1
    assert len(store.logs()) == 2


def test_a_file_holds_log_records_of_no_trace_too(
    tmp_path: Path, make_span: Callable[..., Span]
) -> None:
    store = KeptStore(tmp_path / "traces.db")
    span = make_span()
    store.add([span], [log_record(1), log_record(2, trace=span.trace_id)])
    store.close()
    again = KeptStore(tmp_path / "traces.db")
    assert sorted(entry.record.time for entry in again.logs()) == [1, 2]
    again.close()


def test_of_a_series_the_last_points_stay() -> None:
    store = MetricStore(series=10, points=3, size=1 << 20)
    store.add(measured(time=time) for time in (1, 2, 3, 4))
    # Sent again, as exporters retry; or late.
    store.add([measured(time=4), measured(time=2)])
    (series,) = store.series()
    assert [point.time for point in series.points] == [2, 3, 4]


def test_over_the_bound_of_series_the_one_that_was_quiet_for_longest_goes() -> None:
    store = MetricStore(series=2, points=3, size=1 << 20)
    store.add([measured("a"), measured("b"), measured("a", 2), measured("c")])
    assert [series.origin.name for series in store.series()] == ["a", "c"]


def test_over_the_bound_of_bytes_too() -> None:
    store = MetricStore(series=1000, points=100, size=100_000)
    store.add(measured(str(number), buckets=100) for number in range(100))
    names = [series.origin.name for series in store.series()]
    assert 1 < len(names) < 20
    assert names == [str(number) for number in range(100 - len(names), 100)]
    # What went is no longer counted: as many fit again.
    store.add(measured(f"again {number}", buckets=100) for number in range(100))
    assert len(store.series()) == len(names)
    store.add([measured("huge", buckets=10_000)])
    assert store.series() == []


@pytest.fixture
def logger(viewer: Viewer) -> Iterator[LoggerProvider]:
    provider = LoggerProvider(resource=RESOURCE)
    exporter = OTLPLogExporter(f"{viewer.url}/v1/logs", compression=Compression.Gzip)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter))
    yield provider
    provider.shutdown()


def test_log_records_outside_of_any_span_are_kept(viewer: Viewer, logger: LoggerProvider) -> None:
    before = viewer.store.version
    logger.get_logger("start").emit(
        body="listening", severity_text="INFO", severity_number=SeverityNumber.INFO,
        attributes={"port": 8000},
    )  # fmt: skip
    assert logger.force_flush()
    (entry,) = viewer.store.logs()
    record = entry.record
    assert (record.body, record.severity, record.severity_number) == ("listening", "INFO", 9)
    assert (record.service, record.scope, record.trace_id) == ("python-shop", "start", "")
    assert record.attributes == {"port": 8000}
    assert viewer.store.version > before


@pytest.mark.parametrize("compression", list(Compression))
def test_metrics_of_pythons_exporter(viewer: Viewer, compression: Compression) -> None:
    exporter = OTLPMetricExporter(f"{viewer.url}/v1/metrics", compression=compression)
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
    provider = MeterProvider([reader], resource=RESOURCE)
    meter = provider.get_meter("shop")
    taken = meter.create_histogram("http.server.request.duration", "s")
    active = meter.create_up_down_counter("http.server.active_requests", "{request}")
    before = viewer.store.version
    for seconds in (0.02, 0.2, 3.0):
        taken.record(seconds, {"http.route": "/orders"})
    active.add(2)
    assert provider.force_flush()
    active.add(-1)
    assert provider.force_flush()
    provider.shutdown()
    found = {series.origin.name: series for series in viewer.store.series()}
    duration = found["http.server.request.duration"]
    assert (duration.origin.service, duration.origin.unit) == ("python-shop", "s")
    assert duration.origin.kind == "histogram"
    assert duration.origin.attributes == (("http.route", "/orders"),)
    assert duration.points[-1].value == 3
    assert sum(duration.points[-1].counts) == 3
    requests_now = found["http.server.active_requests"]
    assert not requests_now.origin.grows
    assert [point.value for point in requests_now.points][:2] == [2, 1]
    assert viewer.store.version > before


@pytest.mark.parametrize("path", ["logs", "metrics"])
def test_who_may_send_is_who_may_look(path: str) -> None:
    made = server.make(port=0, token="s3cret-of-length")
    with server.running(made) as url:
        address = f"{url}/v1/{path}"
        headers = {"Content-Type": "application/json"}
        assert requests.post(address, "{}", headers=headers, timeout=10).status_code == 401
        headers["Authorization"] = "Bearer s3cret-of-length"
        assert requests.post(address, "{}", headers=headers, timeout=10).status_code == 200
