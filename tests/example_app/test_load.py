"""Load, compared by who traces."""

from __future__ import annotations

import math
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from flask import g

from example_app.__main__ import main
from example_app.bootstrap import (
    BODYTRACE,
    NOBODY,
    OPENTELEMETRY,
    ORDERS,
    SERVICES,
    TRACINGS,
    Surroundings,
)
from example_app.load.cpu import seconds_of
from example_app.service import traced_service
from example_app.system import System

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.sdk.trace import TracerProvider

    from flask_bodytrace.testing import SpanRecorder

pytestmark = pytest.mark.slow

SPINNING = """
import subprocess, sys, time
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1]])
end = time.process_time() + 0.2
while time.process_time() < end: pass
print("spun", flush=True)
sys.stdin.read()
"""


def test_processor_time_is_that_of_a_process_and_of_those_it_has_started() -> None:
    code = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass"
    with subprocess.Popen(
        [sys.executable, "-c", SPINNING, code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"spun\n"
        assert seconds_of(process.pid) >= 0.45
        process.stdin.close()
    assert math.isnan(seconds_of(process.pid)), "it is gone"


@pytest.mark.parametrize("otel_spans", [False, True])
def test_the_server_span_is_opentelemetrys_own_if_that_is_asked_for(
    provider: TracerProvider, spans: SpanRecorder, otel_spans: bool
) -> None:
    app = traced_service("shop", provider, otel_spans=otel_spans)
    seen = []

    @app.post("/orders")
    def create() -> dict[str, str]:
        seen.append(g.trace.trace_id)
        return {}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {}

    client = app.test_client()
    client.get("/health")
    client.post("/orders", json={"orderId": "A1"})
    (span,) = spans.finished
    assert span.instrumentation_scope is not None
    by = "opentelemetry.instrumentation.flask" if otel_spans else "flask_bodytrace"
    assert span.instrumentation_scope.name == by
    assert (span.attributes or {})["order.id"] == "A1"
    assert span.context is not None
    assert seen == [f"{span.context.trace_id:032x}"]


@pytest.mark.parametrize(("tracing", "disabled"), [(NOBODY, "true"), (BODYTRACE, None)])
def test_nobody_traces_if_nobody_is_to(tmp_path: Path, tracing: str, disabled: str | None) -> None:
    system = System(
        Surroundings(tmp_path, dict.fromkeys(SERVICES, "http://a:1"), b"", None, "", tracing)
    )
    assert system._services[ORDERS]._environment().get("OTEL_SDK_DISABLED") == disabled


def test_nobody_else_traces(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'ours' is none of bodytrace, opentelemetry, none"):
        Surroundings(tmp_path, {}, b"", tracing="ours")


def test_the_same_load_is_driven_with_each(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--load", "--compare", "--orders", "10", "--customers", "2"]) == 0

    printed = capsys.readouterr().out
    rows = re.findall(
        r"^\| (\w+) \| ([\d.]+) \|.*\| 10 \| 10 \| [\d.]+ \| ([\d.]+) \|", printed, re.MULTILINE
    )
    assert [tracing for tracing, *_ in rows] == [*TRACINGS]
    assert all(float(figure) > 0 for _, *figures in rows for figure in figures)
    events = re.findall(r"^\| (\w+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", printed, re.MULTILINE)
    assert [tracing for tracing, *_ in events] == [*TRACINGS]
    assert all(float(figure) > 0 for _, *figures in events for figure in figures)
    assert "0 orders lost or doubled" in printed
    assert OPENTELEMETRY in printed
