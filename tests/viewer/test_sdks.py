"""Services of two languages, each with its OpenTelemetry SDK as it comes, in one trace."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry._logs import SeverityNumber
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import inject
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from flask_bodytrace.viewer import server
from tests.viewer.running import RunningViewer as Viewer

_NODE = shutil.which("node") or ""
NODE = Path(__file__).parent / "node"


def python_service(
    url: str, compression: Compression = Compression.NoCompression
) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": "python-shop"}))
    exporter = OTLPSpanExporter(f"{url}/v1/traces", compression=compression)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider


@pytest.mark.parametrize("compression", list(Compression))
def test_pythons_exporter(viewer: Viewer, compression: Compression) -> None:
    provider = python_service(viewer.url, compression)
    with provider.get_tracer("shop").start_as_current_span("checkout") as span:
        span.set_attribute("order.id", "ORD1")
        span.add_event("reserved", {"quantity": 2})
    provider.shutdown()
    (summary,) = viewer.store.summaries()
    assert (summary.name, summary.service, summary.ids) == (
        "checkout", "python-shop", (("order.id", "ORD1"),),
    )  # fmt: skip


def test_pythons_log_records_of_a_span(viewer: Viewer) -> None:
    provider = python_service(viewer.url)
    loggers = LoggerProvider(resource=Resource.create({"service.name": "python-shop"}))
    loggers.add_log_record_processor(
        BatchLogRecordProcessor(OTLPLogExporter(f"{viewer.url}/v1/logs"))
    )
    with provider.get_tracer("shop").start_as_current_span("checkout"):
        loggers.get_logger("stock").emit(
            body="low stock", severity_text="WARN", severity_number=SeverityNumber.WARN
        )
    loggers.shutdown()
    provider.shutdown()
    (summary,) = viewer.store.summaries()
    trace = viewer.store.trace(summary.trace_id)
    assert trace is not None
    assert [(record.body, record.severity, record.service) for record in trace.logs] == [
        ("low stock", "WARN", "python-shop")
    ]
    assert trace.logs[0].span_id == trace.spans[0].span_id


@pytest.fixture(scope="session")
def node_modules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK from npm, installed once and kept where caches are kept."""
    npm = shutil.which("npm")
    if npm is None or not _NODE:
        pytest.skip("node and npm are not installed")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    lock = (NODE / "package.json").read_bytes()
    folder = cache / "flask_bodytrace" / f"node-{hashlib.sha256(lock).hexdigest()[:12]}"
    if not (folder / "node_modules").exists():
        made = tmp_path_factory.mktemp("node")
        shutil.copy(NODE / "package.json", made)
        done = subprocess.run(
            [npm, "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"],
            cwd=made,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        if done.returncode:
            pytest.skip(f"npm cannot install the SDK here: {done.stderr.strip()[-200:]}")
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.move(made, folder)
        except OSError:
            # Another process was faster.
            assert (folder / "node_modules").exists()
    return folder


@pytest.mark.parametrize("protocol", ["http", "proto"])
def test_python_and_node_make_one_trace(viewer: Viewer, node_modules: Path, protocol: str) -> None:
    provider = python_service(viewer.url)
    carrier: dict[str, str] = {}
    with provider.get_tracer("shop").start_as_current_span("checkout"):
        inject(carrier)
        shutil.copy(NODE / "service.js", node_modules)
        # Without BODYTRACE or endpoint settings of its own but the address, which here is no 4318.
        environment = {
            **os.environ,
            "OTEL_EXPORTER_OTLP_ENDPOINT": viewer.url,
            "OTEL_SERVICE_NAME": "node-stock",
            "TRACEPARENT": carrier["traceparent"],
            "EXPORTER": f"@opentelemetry/exporter-trace-otlp-{protocol}",
        }
        subprocess.run(
            [_NODE, "service.js"], cwd=node_modules, env=environment, check=True, timeout=60
        )
    provider.shutdown()
    (summary,) = viewer.store.summaries()
    trace = viewer.store.trace(summary.trace_id)
    assert trace is not None
    by_name = {span.name: span for span in trace.spans}
    assert set(by_name) == {"checkout", "reserve", "UPDATE stock"}
    assert by_name["reserve"].parent_id == by_name["checkout"].span_id
    assert by_name["UPDATE stock"].parent_id == by_name["reserve"].span_id
    assert by_name["reserve"].service == "node-stock"
    assert by_name["reserve"].kind == 2
    assert by_name["reserve"].attributes["order.id"] == "ORD1"
    assert by_name["UPDATE stock"].failed
    assert by_name["UPDATE stock"].events[0].attributes["exception.message"] == "deadlock"
    assert 0 < by_name["reserve"].duration < 60 * 10**9


def test_the_viewers_port_is_where_exporters_send_to_by_default() -> None:
    program = (
        "from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter;"
        "print(OTLPSpanExporter()._endpoint)"
    )
    environment = {key: value for key, value in os.environ.items() if "OTEL_" not in key}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == f"http://localhost:{server.PORT}/v1/traces"
