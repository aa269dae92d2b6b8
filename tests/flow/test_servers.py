"""Real servers: several workers made by forking, and the development server's reloader."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
import requests
from flask import Flask, request
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.body.servers import free_port

SHOP = """
import os, time
from flask import Flask, Response, g, send_file, stream_with_context
from opentelemetry import trace
from flask_bodytrace import BodyTrace, current_trace

app = Flask("shop")
BodyTrace(app, ids="order.id=orderId")
tracer = trace.get_tracer("shop")

@app.post("/orders")
def order():
    before = current_trace().span_id
    with tracer.start_as_current_span("work"):
        # Another request may come in between: gevent's workers switch here.
        time.sleep(0.01)
    assert before == current_trace().span_id == g.trace.span_id
    return {"pid": os.getpid(), "order": g.trace.ids["order.id"], "version": 1}

@app.get("/stream")
def stream():
    def chunks():
        for number in range(3):
            with tracer.start_as_current_span("chunk"):
                time.sleep(0.005)
            yield current_trace().trace_id
    return Response(stream_with_context(chunks()))

@app.get("/file")
def file():
    return send_file(__file__, mimetype="text/plain")
"""

# What a test tells gunicorn besides: to note down whether it sent a file by sendfile.
CONFIGURATION = """
import pathlib
from gunicorn.http import wsgi

inner = wsgi.Response.sendfile

def noting(self, respiter):
    used = inner(self, respiter)
    with open(pathlib.Path(__file__).with_name("sendfile.log"), "a") as log:
        log.write(f"{used}\\n")
    return used

wsgi.Response.sendfile = noting
"""


class Collector:
    """Takes spans in by OTLP over HTTP."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.app = Flask("collector")
        self.app.add_url_rule("/v1/traces", view_func=self._take, methods=["POST"])

    def _take(self) -> bytes:
        message = ExportTraceServiceRequest.FromString(request.get_data())
        for resource in message.resource_spans:
            for scope in resource.scope_spans:
                self.spans.extend(scope.spans)
        return b""

    def named(self, name: str) -> list[Any]:
        return [span for span in self.spans if span.name == name]


@pytest.fixture
def collector(serve: Callable[[Any], str]) -> tuple[Collector, dict[str, str]]:
    """A collector, and the environment of a process that sends to it."""
    collector = Collector()
    return collector, {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": serve(collector.app),
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_METRICS_EXPORTER": "none",
    }


@contextmanager
def running(
    command: list[str], directory: Path, environment: dict[str, str], ready: str
) -> Iterator[tuple[subprocess.Popen[str], list[str], SimpleQueue[bool]]]:
    """A process that has printed what matches `ready`; its lines; and what hears of it again."""
    lines: list[str] = []
    found: SimpleQueue[bool] = SimpleQueue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if re.search(ready, line):
                found.put(True)
        found.put(False)

    with subprocess.Popen(
        command,
        cwd=directory,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        reader = threading.Thread(target=read)
        reader.start()
        try:
            assert found.get(timeout=30), "".join(lines)
            yield process, lines, found
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(30)
            reader.join(10)


NO_THREADS_AT_EXIT = pytest.mark.skipif(
    sys.version_info[:2] == (3, 12),
    reason="CPython 3.12 starts no thread while it shuts down (gh-104690), and gevent needs one to "
    "resolve the collector's name if nothing was exported before",
)


@pytest.mark.parametrize(
    "worker",
    [["sync"], ["gthread", "--threads", "4"], pytest.param(["gevent"], marks=NO_THREADS_AT_EXIT)],
    ids=lambda worker: worker[0],
)
# T15
def test_gunicorn_with_preload_and_two_workers(
    worker: list[str], collector: tuple[Collector, dict[str, str]], tmp_path: Path
) -> None:
    collected, environment = collector
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "conf.py").write_text(CONFIGURATION)
    port = free_port()
    command = [
        sys.executable, "-m", "gunicorn", "shop:app", "--preload", "--workers", "2",
        "--worker-class", *worker, "--bind", f"127.0.0.1:{port}",
        "--config", "conf.py", "--no-control-socket",
    ]  # fmt: skip
    # Only a clean shutdown sends anything within this test.
    environment["OTEL_BSP_SCHEDULE_DELAY"] = "600000"
    environment["OTEL_BSP_MAX_QUEUE_SIZE"] = "10000"
    url = f"http://127.0.0.1:{port}"

    def headers(number: int) -> dict[str, str]:
        return {"traceparent": f"00-{number + 1:032x}-{number + 101:016x}-01"}

    def post(number: int) -> Any:
        answer = requests.post(
            f"{url}/orders", json={"orderId": f"O{number}"}, headers=headers(number), timeout=20
        )
        return answer.json(), answer.headers

    with running(command, tmp_path, environment, "Booting worker") as (process, lines, _):
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(post, range(40)))
            # Nobody promises that either worker gets one soon.
            while len({body["pid"] for body, _ in answers}) < 2 and len(answers) < 2000:
                answers += pool.map(post, range(len(answers), len(answers) + 40))
            streamed = requests.get(f"{url}/stream", headers=headers(5000), timeout=20).text
            file = requests.get(f"{url}/file", headers=headers(5001), timeout=20).text
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    output = "".join(lines)
    assert file == SHOP
    assert streamed == f"{5001:032x}" * 3
    assert len({body["pid"] for body, _ in answers}) == 2
    served = collected.named("POST /orders")
    assert len(served) == len(answers)
    by_trace = {int.from_bytes(span.trace_id, "big") - 1: span for span in served}
    for number, (body, answered) in enumerate(answers):
        span = by_trace[number]
        assert int.from_bytes(span.parent_span_id, "big") == number + 101
        assert answered["X-Span-ID"] == span.span_id.hex()
        ids = {a.key: a.value.string_value for a in span.attributes}
        assert body["order"] == ids["order.id"] == f"O{number}"
    work = {(span.trace_id, span.parent_span_id) for span in collected.named("work")}
    assert work == {(span.trace_id, span.span_id) for span in served}
    (stream,) = collected.named("GET /stream")
    chunks = collected.named("chunk")
    assert [chunk.parent_span_id for chunk in chunks] == [stream.span_id] * 3
    assert max(chunk.end_time_unix_nano for chunk in chunks) <= stream.end_time_unix_nano
    assert len(collected.named("GET /file")) == 1
    assert len(collected.spans) == 2 * len(answers) + 1 + 3 + 1
    if worker[0] != "gevent":
        # T6: gevent's sockets have no sendfile, the others' must be used.
        assert (tmp_path / "sendfile.log").read_text() == "True\n"
    # gevent warns, and names an error in that, where something imported ssl before it patched it.
    said = "\n".join(line for line in output.splitlines() if "MonkeyPatchWarning" not in line)
    for trouble in ("Traceback", "detach", "Error", "fork"):
        assert trouble not in said, output


# T06
def test_uwsgi_sends_the_file_itself(tmp_path: Path) -> None:
    uwsgi = Path(sys.executable).with_name("uwsgi")
    if not uwsgi.exists():
        pytest.skip("uWSGI comes as source, and building it needs a compiler")
    sent = tmp_path / "sent.py"
    sent.write_text("x" * 200_000)
    (tmp_path / "shop.py").write_text(
        SHOP + "\nimport uwsgi\ninner = app.wsgi_app\n"
        "def noting(environ, start_response):\n"
        "    iterable = inner(environ, start_response)\n"
        "    print('returned', type(iterable).__name__, flush=True)\n"
        "    return iterable\n"
        "app.wsgi_app = noting\n"
        "@app.get('/large')\n"
        "def large():\n"
        "    return send_file('sent.py')\n"
    )
    port = free_port()
    command = [
        str(uwsgi), "--http-socket", f"127.0.0.1:{port}", "--module", "shop:app", "--master",
        "--die-on-term", "--need-app", "--enable-threads", "--virtualenv", sys.prefix,
    ]  # fmt: skip
    with running(command, tmp_path, dict(os.environ), "spawned uWSGI worker") as (_, lines, _):
        answer = requests.get(f"http://127.0.0.1:{port}/large", timeout=20)
        assert answer.text == sent.read_text()
        assert answer.headers["X-Trace-ID"]
    # The open file, and no wrapper of ours or of Werkzeug's around it.
    assert "returned BufferedReader\n" in lines


@pytest.mark.slow
# T24
def test_the_reloader_of_flask_run(
    collector: tuple[Collector, dict[str, str]], tmp_path: Path
) -> None:
    collected, environment = collector
    shop = tmp_path / "shop.py"
    shop.write_text(SHOP)
    port = free_port()
    environment["OTEL_BSP_SCHEDULE_DELAY"] = "50"
    command = [
        sys.executable,
        "-m",
        "flask",
        "--app",
        "shop",
        "run",
        "--debug",
        "--port",
        str(port),
    ]

    def version() -> int:
        answer = requests.post(f"http://127.0.0.1:{port}/orders", json={"orderId": "A"}, timeout=20)
        found: int = answer.json()["version"]
        return found

    with running(command, tmp_path, environment, "Debugger PIN") as (process, lines, again):
        assert version() == 1
        shop.write_text(SHOP.replace('"version": 1', '"version": 22'))
        assert again.get(timeout=30)
        assert version() == 22
        process.send_signal(signal.SIGINT)
        process.wait(30)
    assert len(collected.named("POST /orders")) == 2
    assert len(collected.named("work")) == 2
    assert "Traceback" not in "".join(lines)
