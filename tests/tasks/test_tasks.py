"""A request's trace and ids in the worker that its tasks are left to."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.contrib.testing.worker import start_worker
from flask import Flask
from opentelemetry import propagate
from opentelemetry.propagators.textmap import TextMapPropagator
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace, current_trace
from flask_bodytrace.tasks import in_task, task_headers
from flask_bodytrace.tasks.message import IDS_HEADER
from tests.body.servers import free_port
from tests.tasks import worker

ROOT = Path(__file__).parents[2]
IDS = {"order.id": "Bestellung 7,8=é"}


def app_of(view: Any) -> Flask:
    app = Flask("shop")
    provider = TracerProvider(shutdown_on_exit=False)
    BodyTrace(app, tracer_provider=provider, ids="order.id=orderId")
    app.add_url_rule("/", "view", view, methods=["POST"])
    return app


def post(view: Any) -> tuple[str, Any]:
    answer = app_of(view).test_client().post("/", json={"orderId": IDS["order.id"]})
    assert answer.status_code == 200
    return answer.headers["X-Trace-ID"], answer.json


def test_a_message_says_trace_and_ids_and_a_worker_reads_them() -> None:
    trace_id, headers = post(task_headers)
    assert headers["traceparent"][3:35] == trace_id
    with in_task(headers):
        assert worker.told() == {"record": [trace_id, IDS["order.id"]], "trace": [trace_id, IDS]}
        # A task that leaves work to another one passes them on.
        again = task_headers()
        assert (again["traceparent"][3:35], again[IDS_HEADER]) == (trace_id, headers[IDS_HEADER])
    assert current_trace() is None
    assert task_headers() == {}


class Broken(TextMapPropagator):
    fields: Any = frozenset()

    def extract(self, *_: Any, **__: Any) -> Any:
        raise RuntimeError("extract")

    def inject(self, *_: Any, **__: Any) -> None:
        raise RuntimeError("inject")


def test_a_propagator_that_fails_stops_no_task(caplog: pytest.LogCaptureFixture) -> None:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(Broken())
    try:
        _, headers = post(task_headers)
        with in_task(headers):
            trace = current_trace()
            assert trace is not None
            assert trace.ids == IDS
    finally:
        propagate.set_global_textmap(before)
    assert [record.levelname for record in caplog.records].count("ERROR") == 3
    assert current_trace() is None


@pytest.mark.parametrize(
    "headers",
    [
        *({}, {IDS_HEADER: ""}, {IDS_HEADER: "=,=x,,a"}, {IDS_HEADER: "a=" + "x" * 20_000}),
        *({IDS_HEADER: 7}, {"traceparent": b"00"}, {"traceparent": "nonsense", "other": None}),
    ],
    ids=range(7),
)
def test_a_message_without_or_with_anything_else_does_no_harm(headers: dict[str, Any]) -> None:
    with in_task(headers):
        told = worker.told()
    assert told["record"] == [None, None]
    assert told["trace"][1] == {}


def test_celery_in_memory() -> None:
    with start_worker(worker.celery_app, perform_ping_check=False, pool="solo"):
        trace_id, found = post(lambda: worker.work.delay().get(timeout=20))
    assert found == {"record": [trace_id, IDS["order.id"]], "trace": [trace_id, IDS]}


def _written(path: Path, process: subprocess.Popen[bytes]) -> Any:
    deadline = time.monotonic() + 40
    while not path.exists():
        assert process.poll() is None or path.exists(), process.returncode
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return json.loads(path.read_text())


def test_celerys_worker_in_another_process(tmp_path: Path) -> None:
    folder, result = tmp_path / "messages", tmp_path / "result"
    (folder / "control").mkdir(parents=True)
    environment = {**os.environ, "TASKS_FOLDER": str(folder), "PYTHONPATH": str(ROOT)}
    # Sent from a process of its own as well: this one's application has another broker.
    send = (
        "import sys\nfrom tests.tasks.test_tasks import post\n"
        "from tests.tasks.worker import write\n"
        "print(post(lambda: {'task': write.delay(sys.argv[1]).id})[0])"
    )
    trace_id = subprocess.run(
        [sys.executable, "-c", send, str(result)],
        env=environment, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    ).stdout.strip()  # fmt: skip
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "celery", "-A", "tests.tasks.worker:celery_app", "worker"),
            *("--pool", "solo", "--without-mingle", "--without-gossip", "--loglevel", "ERROR"),
        ],
        env=environment,
        cwd=ROOT,
    )
    try:
        found = _written(result, process)
    finally:
        process.terminate()
        process.wait(20)
    assert found == {"record": [trace_id, IDS["order.id"]], "trace": [trace_id, IDS]}


@pytest.fixture
def redis_port(tmp_path: Path) -> Iterator[int]:
    server = shutil.which("redis-server")
    if server is None:
        pytest.skip("redis-server is not installed: apt-get install redis-server")
    port = free_port()
    process = subprocess.Popen(
        [server, "--port", str(port), "--dir", str(tmp_path), "--save", ""],
        stdout=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.02)
        yield port
    finally:
        process.terminate()
        process.wait(20)


def test_rqs_worker_in_another_process(redis_port: int, tmp_path: Path) -> None:
    redis = pytest.importorskip("redis")
    rq = pytest.importorskip("rq")
    from flask_bodytrace.tasks.rq import TracedJob

    connection = redis.Redis(port=redis_port)
    queue = rq.Queue(connection=connection, job_class=TracedJob)
    result = tmp_path / "result"
    trace_id, _ = post(lambda: {"job": queue.enqueue(worker.job, str(result)).id})
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "rq.cli", "worker", "--burst", "--quiet"),
            *("--url", f"redis://127.0.0.1:{redis_port}"),
            *("--job-class", "flask_bodytrace.tasks.rq.TracedJob"),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
    )
    try:
        found = _written(result, process)
    finally:
        process.wait(40)
        connection.close()
    assert found == {"record": [trace_id, IDS["order.id"]], "trace": [trace_id, IDS]}


def test_a_span_that_is_current_already_stays() -> None:
    _, headers = post(task_headers)
    tracer = TracerProvider(shutdown_on_exit=False).get_tracer("worker")
    with tracer.start_as_current_span("own") as own, in_task(headers):
        trace = current_trace()
        assert trace is not None
        assert worker.told()["record"][0] == f"{own.get_span_context().trace_id:032x}"
