"""docs/howto/child-spans.md: the tree that each instrumentation makes, with the real library."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, blocks

PAGE = DOCS / "howto/child-spans.md"
BODY = {"orderId": "ORD1", "items": [1, 2]}

# In a process of its own: instrumentations are switched on for all of it.
RUN = """
import importlib, json, sys
from contextlib import ExitStack
from flask_bodytrace.testing import capture_spans

with ExitStack() as stack:
    {before}
    module = importlib.import_module(sys.argv[1])
    spans = stack.enter_context(capture_spans())
    {meanwhile}
    answer = module.app.test_client().post("/orders", json=json.loads(sys.argv[2]))
    assert answer.status_code == 201, answer.text
    {after}
    for line in spans.tree().splitlines():
        print(line)
"""
SERVE = """
    import os, threading
    from werkzeug.serving import make_server
    server = make_server("127.0.0.1", 0, module.app, threaded=True)
    module.PAYMENTS = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    @stack.callback
    def _():
        server.shutdown(); thread.join(); server.server_close()
"""
WORK_CELERY = """
    from celery.contrib.testing.worker import start_worker
    stack.enter_context(start_worker(module.queue, perform_ping_check=False, pool="solo"))
    delay, module.send_mail.delay = module.send_mail.delay, lambda *a: delay(*a).get(timeout=30)
"""
WORK_RQ = """
    import rq
    worker = rq.SimpleWorker([module.queue], connection=module.queue.connection,
                             job_class=module.TracedJob)
    assert worker.work(burst=True, logging_level="ERROR")
"""
# librdkafka's own broker, in this process: the protocol over a socket.
BROKER = """
    import os
    from confluent_kafka import Producer
    broker = Producer({"test.mock.num.brokers": 1, "bootstrap.servers": "mock"})
    (node,) = broker.list_topics(timeout=20).brokers.values()
    os.environ["KAFKA"] = f"{node.host}:{node.port}"
"""
CONSUME = """
    import os, kafka_consumer
    from confluent_kafka import Consumer
    consumer = Consumer({"bootstrap.servers": os.environ["KAFKA"], "group.id": "packers",
                         "auto.offset.reset": "earliest"})
    stack.callback(consumer.close)
    consumer.subscribe(["orders"])
    message = consumer.poll(30)
    assert message is not None and not message.error(), message
    assert json.loads(kafka_consumer.handle(message)) == json.loads(sys.argv[2])
"""
CASES: dict[str, dict[str, str]] = {
    "by_hand": {},
    "with_sqlalchemy": {},
    "with_redis": {},
    "with_http": {"meanwhile": SERVE},
    "with_celery": {"meanwhile": WORK_CELERY},
    "with_rq": {"after": WORK_RQ},
    "with_kafka": {"before": BROKER, "after": CONSUME},
}


def shown(name: str) -> list[str]:
    """The tree on the page."""
    (block,) = [block for block in blocks(PAGE, "text") if block.title == f"{name}.py"]
    return block.code.splitlines()


@pytest.mark.parametrize("name", CASES)
def test_the_tree_is_as_shown(name: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    files = {block.title: block.code for block in blocks(PAGE, "python")}
    for title, code in files.items():
        (tmp_path / title).write_text(code, "utf-8")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    if "REDIS_URL" in files[f"{name}.py"]:
        environment["REDIS_URL"] = request.getfixturevalue("redis_url")
    code = RUN.format(**{"before": "pass", "meanwhile": "pass", "after": "pass"} | CASES[name])
    done = subprocess.run(
        [sys.executable, "-c", code, name, json.dumps(BODY)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # Each line ends in the span's id.
    names = [line.rpartition("  ")[0] for line in done.stdout.splitlines()]
    assert names == shown(name), done.stdout + done.stderr


def test_every_example_of_the_page_is_run() -> None:
    titles = {block.title for block in blocks(PAGE, "python")}
    assert titles == {f"{name}.py" for name in CASES} | {"kafka_consumer.py"}
