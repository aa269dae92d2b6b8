"""A real Jaeger with the configuration in `example_app/deploy/jaeger`: what it keeps and says."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import StatusCode, format_trace_id, set_span_in_context

from example_app.bootstrap import GATEWAY
from example_app.demo.expected import good_order
from example_app.demo.spans import differences, edges
from example_app.load.customer import Customer
from example_app.system import System, running
from flask_bodytrace.viewer import Span, spans_from_json
from tests.body.servers import free_port
from tests.example_app import patient
from tests.example_app.programs import needed, started, until

if TYPE_CHECKING:
    from opentelemetry.trace import Tracer

pytestmark = pytest.mark.slow

CONFIG = Path(__file__).parents[2] / "example_app" / "deploy" / "jaeger" / "jaeger.yaml"
INSTALL = "bash example_app/deploy/get_servers jaeger"
PORTS = ("OTLP", "OTLP_GRPC", "ZIPKIN", "", "GRPC", "HEALTH", "METRICS")


class Jaeger:
    """A running one."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._at = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        self.otlp = f"{self._at['OTLP']}/v1/traces"
        self.zipkin = f"{self._at['ZIPKIN']}/api/v2/spans"

    def is_healthy(self) -> bool:
        try:
            return httpx.get(f"{self._at['HEALTH']}/status", trust_env=False, timeout=30).is_success
        except httpx.TransportError:
            return False

    def ask(self, path: str) -> httpx.Response:
        return httpx.get(self._at[""] + path, trust_env=False, timeout=30)

    def trace(self, trace_id: str) -> list[Span]:
        """The spans of a trace; none if it was not kept."""
        answer = self.ask(f"/api/v3/traces/{trace_id}")
        if answer.status_code == 404:
            return []
        return spans_from_json(json.dumps(answer.raise_for_status().json()["result"]).encode())

    def wait_for(self, trace_id: str, number: int) -> list[Span]:
        until(lambda: len(self.trace(trace_id)) >= number, lambda: str(self.trace(trace_id)))
        return self.trace(trace_id)

    def decided(self, kept: str) -> float:
        """How many traces were looked at and kept ("true") or dropped ("false")."""
        answer = httpx.get(f"{self._at['METRICS']}/metrics", trust_env=False, timeout=30)
        name = "otelcol_processor_tail_sampling_global_count_traces_sampled"
        return sum(
            float(line.rpartition(" ")[2])
            for line in answer.text.splitlines()
            if line.startswith(name) and f'sampled="{kept}"' in line
        )


@contextmanager
def jaeger(folder: Path, **settings: object) -> Iterator[Jaeger]:
    """Run one that decides quickly, and keeps nothing by chance."""
    program = needed("jaeger", INSTALL)
    ports = {name: free_port() for name in PORTS}
    environ = {f"JAEGER_{name}_PORT".replace("__", "_"): f"{it}" for name, it in ports.items()}
    wanted = {"DECISION_WAIT": "300ms", "REST_PERCENT": 0, **settings}
    environ |= {f"JAEGER_{name}": f"{value}" for name, value in wanted.items()}
    running = Jaeger(ports)
    command = [program, "--config", f"file:{CONFIG}"]
    with started(command, folder / "jaeger.log", running.is_healthy, **environ):
        yield running


@contextmanager
def traced(running: Jaeger) -> Iterator[Tracer]:
    """A tracer whose spans are at Jaeger's once they end."""
    provider = TracerProvider(resource=Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(OTLPSpanExporter(running.otlp)))
    yield provider.get_tracer("test")
    provider.shutdown()


def one_span(tracer: Tracer, *, fails: bool = False, seconds: float = 0, **attributes: Any) -> str:
    """Make a trace of one span; return its id."""
    started_at = time.time_ns()
    span = tracer.start_span(
        "checkout",
        start_time=started_at,
        attributes={name.replace("_", "."): value for name, value in attributes.items()},
    )
    if fails:
        span.set_status(StatusCode.ERROR)
    span.end(started_at + int(seconds * 1e9))
    return format_trace_id(span.get_span_context().trace_id)


@pytest.mark.parametrize(
    ("ids", "kept"),
    [(".+", {"vip", "order", "error", "slow"}), ("^VIP-", {"vip", "error", "slow"})],
)
def test_whole_traces_are_kept_for_their_business_id_their_errors_or_their_time(
    tmp_path: Path, ids: str, kept: set[str]
) -> None:
    with jaeger(tmp_path, ORDER_IDS=ids) as running, traced(running) as tracer:
        traces = {
            "vip": one_span(tracer, order_id="VIP-1"),
            "order": one_span(tracer, order_id="ORD-1"),
            "error": one_span(tracer, fails=True),
            "slow": one_span(tracer, seconds=2.5),
            "plain": one_span(tracer, seconds=1.5),
            "other": one_span(tracer, user_id="VIP-1"),
        }
        until(
            lambda: running.decided("true") + running.decided("false") == len(traces),
            lambda: f"{running.decided('true')} kept, {running.decided('false')} not",
        )
        for name in kept:
            assert len(running.wait_for(traces[name], 1)) == 1
        assert {name for name, it in traces.items() if running.trace(it)} == kept


def test_what_comes_after_the_decision_shares_its_fate(tmp_path: Path) -> None:
    with jaeger(tmp_path) as running, traced(running) as tracer:
        ordered = tracer.start_span("order", attributes={"order.id": "A1"})
        asked = tracer.start_span("look")
        parts = [ordered, asked]
        with_spans = [(span, set_span_in_context(span)) for span in parts]
        for span, context in with_spans:
            tracer.start_span("first", context=context, attributes=dict(span.attributes)).end()  # type: ignore[attr-defined]
        until(
            lambda: running.decided("true") + running.decided("false") == len(parts),
            lambda: "nothing was decided",
        )
        for span, context in with_spans:
            tracer.start_span("late", context=context).end()
            span.end()
        ids = [format_trace_id(span.get_span_context().trace_id) for span in parts]
        found = {span.name for span in running.wait_for(ids[0], 3)}
        assert found == {"order", "first", "late"}
        assert running.trace(ids[1]) == []


def test_some_of_the_rest_is_all_of_it_where_it_is_said_so(tmp_path: Path) -> None:
    with jaeger(tmp_path, REST_PERCENT=100) as running, traced(running) as tracer:
        running.wait_for(one_span(tracer), 1)


# The order system.


@contextmanager
def reporting(
    monkeypatch: pytest.MonkeyPatch, folder: Path, **variables: str
) -> Iterator[tuple[System, Customer]]:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with running(folder / "data") as system, closing(Customer(system.url(GATEWAY))) as customer:
        yield system, customer


def test_the_table_of_spans_is_the_same_by_jaegers_api_and_errors_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        jaeger(tmp_path, DECISION_WAIT="2s") as backend,
        reporting(monkeypatch, tmp_path, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=backend.otlp) as (
            system,
            customer,
        ),
    ):
        sent, answer = patient.send_until_whole(customer, "TRACED", "U1")
        gateway = system.url(GATEWAY)
        stock = [customer.client.get(f"{gateway}/stock/BOLT-M8") for _ in range(5)]
        missing = customer.client.get(f"{gateway}/orders/NONE")
        assert [answer.status_code, missing.status_code] == [201, 404]

        expected = good_order("U1")
        trace = backend.wait_for(answer.headers["X-Trace-ID"], expected.total())
        assert list(differences(expected, edges(trace))) == []
        # The viewer's ids and Jaeger's are the same, and so are the business ids.
        found = {span.attributes.get("order.id") for span in trace if span.service == "orders"}
        assert sent in found
        until(lambda: backend.decided("false") == len(stock), lambda: "stock was not looked at")
        assert [backend.trace(it.headers["X-Trace-ID"]) for it in stock] == [[]] * len(stock)
        assert backend.wait_for(missing.headers["X-Trace-ID"], 2)
        services = set(backend.ask("/api/v3/services").json()["services"])
        assert services == {"gateway", "orders", "inventory", "payments", "fulfilment"}


def test_spans_in_zipkins_form_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        jaeger(tmp_path, DECISION_WAIT="2s") as backend,
        reporting(
            monkeypatch,
            tmp_path,
            OTEL_TRACES_EXPORTER="zipkin",
            OTEL_EXPORTER_ZIPKIN_ENDPOINT=backend.zipkin,
        ) as (_, customer),
    ):
        _, answer = patient.send_until_whole(customer, "ZIPPED", "U1")
        expected = good_order("U1")
        trace = backend.wait_for(answer.headers["X-Trace-ID"], expected.total())
        assert list(differences(expected, edges(trace))) == []
