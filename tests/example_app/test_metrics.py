"""OpenTelemetry's metrics API over prometheus_client, and what is recorded with it."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry, generate_latest

from example_app.cache.sqlite_cache import SqliteCache
from example_app.events.event import PLACED, new_event
from example_app.metrics.cache import MeteredCache
from example_app.metrics.handlers import timed
from example_app.metrics.pool import MeteredPool
from example_app.metrics.process_figures import observe_process
from example_app.metrics.provider import PrometheusMeterProvider
from example_app.statements import Statements

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path


class Exposed:
    """A provider, and what Prometheus would read."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self.provider = PrometheusMeterProvider(self._registry)
        self.meter = self.provider.get_meter("test")

    def value(self, name: str, **labels: str) -> float | None:
        return self._registry.get_sample_value(name, labels)

    def text(self) -> str:
        return generate_latest(self._registry).decode()


@pytest.fixture
def exposed(monkeypatch: pytest.MonkeyPatch) -> Exposed:
    exposed = Exposed()
    monkeypatch.setattr(metrics, "get_meter", exposed.provider.get_meter)
    return exposed


def test_instruments_have_prometheus_names(exposed: Exposed) -> None:
    exposed.meter.create_counter("shop.orders", "{order}").add(2)
    exposed.meter.create_up_down_counter("shop.kept", "By").add(5)
    exposed.meter.create_histogram("shop.time", "s").record(0.3)
    assert exposed.value("shop_orders_total") == 2
    assert exposed.value("shop_kept_bytes") == 5
    assert exposed.value("shop_time_seconds_count") == 1
    assert exposed.value("shop_time_seconds_bucket", le="0.25") == 0
    assert exposed.value("shop_time_seconds_bucket", le="0.32") == 1, "the article's 320 ms"


def test_the_same_name_is_the_same_instrument(exposed: Exposed) -> None:
    for _ in range(2):
        exposed.provider.get_meter("other").create_counter("shop.orders").add(1)
    assert exposed.value("shop_orders_total") == 2


def test_labels_are_fixed_and_values_of_other_attributes_are_added_up(exposed: Exposed) -> None:
    duration = exposed.meter.create_histogram("http.server.request.duration", "s")
    for port in (1, 2):
        duration.record(1, {"http.route": "/orders", "server.port": port})
    name = "http_server_request_duration_seconds_count"
    labels = {"http_request_method": "", "http_response_status_code": "", "error_type": ""}
    assert exposed.value(name, http_route="/orders", **labels) == 2

    unlisted = exposed.meter.create_counter("shop.orders")
    unlisted.add(1, {"a": 1})
    unlisted.add(1, {"a": 1, "b": 2})
    unlisted.add(1)
    assert exposed.value("shop_orders_total", a="1") == 2
    assert exposed.value("shop_orders_total", a="") == 1


def test_what_is_observed_is_asked_and_counts_on(exposed: Exposed) -> None:
    count = 3

    def counted(_: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"a": "b"})]

    def generated() -> Generator[Iterable[Observation], CallbackOptions, None]:
        while True:
            yield [Observation(7)]

    exposed.meter.create_observable_counter("shop.seen", [counted])
    exposed.meter.create_observable_up_down_counter("shop.now", [counted])
    exposed.meter.create_observable_gauge("shop.level", [generated()])
    assert exposed.value("shop_seen_total", a="b") is None
    for count in (3, 5):  # noqa: B007 - asked for in the callback
        exposed.provider.observe()
    assert exposed.value("shop_seen_total", a="b") == 5
    assert exposed.value("shop_now", a="b") == 5
    assert exposed.value("shop_level") == 7


def test_the_process_tells_what_it_costs(exposed: Exposed) -> None:
    before = list(gc.callbacks)
    try:
        observe_process(exposed.meter)
        gc.collect()
        exposed.provider.observe()
    finally:
        gc.callbacks[:] = before
    for name in (
        "process_resident_memory_bytes",
        "process_threads",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
        "process_cpu_seconds_total",
    ):
        assert (exposed.value(name) or 0) > 0, name
    assert (exposed.value("python_gc_pause_seconds_total", generation="2") or 0) > 0
    assert (exposed.value("python_gc_collections_total", generation="2") or 0) > 0


def test_a_pool_tells_how_busy_it_is(exposed: Exposed) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        assert go_on.wait(20)

    def state() -> list[float | None]:
        names = ("threads", "busy", "queued")
        return [exposed.value(f"example_pool_{name}", pool="test") for name in names]

    with MeteredPool(1, "test") as pool:
        assert state() == [1, 0, 0]
        tasks = [pool.submit(task) for _ in range(3)]
        assert begun.wait(20)
        assert state() == [1, 1, 2]
        assert tasks[2].cancel()
        assert state() == [1, 1, 1]
        go_on.set()
    assert state() == [1, 0, 0]
    with pytest.raises(RuntimeError):
        pool.submit(task)
    assert state() == [1, 0, 0]


def test_statements_handlers_and_caches_are_timed_and_counted(
    exposed: Exposed, tmp_path: Path
) -> None:
    statements = Statements(NoOpTracer(), "db-1")
    with statements.span("SELECT", "orders"):
        pass
    with pytest.raises(LookupError), statements.span("SELECT", "orders"):
        raise LookupError
    name = "db_client_operation_duration_seconds_count"
    about = {"db_namespace": "db-1", "db_operation_name": "SELECT"}
    assert exposed.value(name, **about, error_type="") == 1
    assert exposed.value(name, **about, error_type="LookupError") == 1

    def fail(_event: Any) -> None:
        raise LookupError

    with pytest.raises(LookupError):
        timed({PLACED: fail}, "shop")[PLACED](new_event(PLACED, "A1", {}))
    assert (
        exposed.value(
            "messaging_process_duration_seconds_count",
            messaging_consumer_group_name="shop",
            messaging_destination_name=PLACED,
            error_type="LookupError",
        )
        == 1
    )

    with closing(SqliteCache(tmp_path / "cache.db")) as kept:
        cache = MeteredCache(kept)
        assert cache.get("a") is None
        assert cache.add("a", 1)
        assert not cache.add("a", 2)
        assert cache.get("a") == 1
        cache.set("a", 3)
    with pytest.raises(Exception, match="closed"):
        cache.get("a")
    operations = {
        (operation, outcome): exposed.value(
            "example_cache_operations_total", operation=operation, outcome=outcome
        )
        for operation, outcome in (
            *(("get", "miss"), ("get", "hit"), ("get", "error")),
            *(("add", "hit"), ("add", "miss"), ("set", "hit")),
        )
    }
    assert set(operations.values()) == {1}, operations


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.delenv("OTEL_METRICS_EXPORTER", raising=False)
    return monkeypatch


EXPOSE = """
from opentelemetry import metrics
from example_app.metrics.exposition import Exposition
from werkzeug.test import Client
from werkzeug.wrappers import Response
app = Exposition().beside(Response("the service"))
metrics.get_meter("shop").create_counter("shop.orders").add(1)
client = Client(app)
assert client.get("/").text == "the service"
print(client.get("/metrics").text)
"""


@pytest.mark.parametrize(("exporter", "ours"), [("", True), ("none", True), ("console", False)])
def test_another_provider_that_is_asked_for_gets_the_services_figures(
    environ: pytest.MonkeyPatch, exporter: str, ours: bool
) -> None:
    if exporter:
        environ.setenv("OTEL_METRICS_EXPORTER", exporter)
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", EXPOSE],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert ("shop_orders_total 1.0" in run.stdout) is ours
    assert "process_resident_memory_bytes" in run.stdout
