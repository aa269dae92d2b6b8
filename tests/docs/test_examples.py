"""The examples of the reference pages run: what they leave out is put before them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES, ROOT, blocks, name_of
from tests.docs.running import environment

APP = """
from flask import Flask, abort, g, request, copy_current_request_context
from flask_bodytrace import BodyTrace
app = Flask("shop")
"""
ATTACHED = APP + "BodyTrace(app, ids='order.id=orderId', hash_key='k', metrics=False)\n"
POST = "app.test_client().post('/orders', json={'orderId': 'ORD1'})"

# What a page's examples leave out, and what must hold once they have run.
AROUND: dict[str, tuple[str, str]] = {
    "docs/body.md": (
        ATTACHED + "import hmac\nkey = b'sesame'",
        """
signature = hmac.new(key, b"amount=5", "sha256").hexdigest()
form = "application/x-www-form-urlencoded"
for given, status in ((signature, 204), ("0", 401)):
    answer = app.test_client().post(
        "/callback", data=b"amount=5", content_type=form, headers={"X-Signature": given}
    )
    assert answer.status_code == status
""",
    ),
    "docs/calltree.md": (
        APP
        + """
import threading
from werkzeug.serving import make_server
app.add_url_rule("/orders", "orders", lambda: "", methods=["POST"])
""",
        """
server = make_server("127.0.0.1", 0, app)
threading.Thread(target=server.serve_forever, daemon=True).start()
assert bodytrace.watch(session) is session
tree = CallTree()
session = tree.watch(requests.Session())
session.post(f"http://127.0.0.1:{server.port}/orders", json={"orderId": "ORD1"})
assert "POST /orders  200" in str(tree), str(tree)
server.shutdown()
server.server_close()
""",
    ),
    "docs/hooks.md": (
        APP,
        f"""
app.config["BODYTRACE_IDS"] = "order.id=orderId"
app.add_url_rule("/orders", "orders", lambda: "", methods=["POST"])
bodytrace.init_app(app)
assert {POST}.headers["X-Order"] == "ORD1"
""",
    ),
    "docs/logging.md": (
        "",
        """
logging.info("outside")
assert any(isinstance(each, TraceLogFilter) for each in handler.filters)
structlog.get_logger().info("outside")
""",
    ),
    "docs/metrics.md": (
        "",
        f"""{APP}
BodyTrace(app)
app.test_client().get("/")
from werkzeug.test import Client
assert "http_server_request_duration_seconds_bucket" in Client(metrics_app).get("/").text
""",
    ),
    "docs/middleware.md": (
        """
import bottle
app = bottle.Bottle()
app.post("/orders")(lambda: order_id())
application = app
""",
        """
from werkzeug.test import Client
assert Client(application).post("/orders", json={"orderId": "ORD1"}).text == "ORD1"
""",
    ),
    "docs/settings.md": (
        APP + "import types\ncheck = lambda _: types.SimpleNamespace(id='u-7')",
        """
BodyTrace(app)
app.add_url_rule("/orders", "orders", lambda: dict(g.trace.ids), methods=["POST"])
answer = app.test_client().post(
    "/orders", json={"orderId": "ORD1"}, headers={"Authorization": "x"}
)
assert answer.json == {"order.id": "ORD1", "user.id": "u-7"}, answer.json
assert redact("customer.email", "ann@example.com", "request") == "example.com"
assert trusted({"REMOTE_ADDR": "10.0.0.1"}) == "continue"
""",
    ),
    "docs/tracing.md": (
        ATTACHED
        + """
import os, threading
from concurrent.futures import ThreadPoolExecutor
from redis import Redis
from rq import Queue, Worker
executor = ThreadPoolExecutor()
redis = Redis.from_url(os.environ["REDIS_URL"])
order, seen = "ORD1", []
work = lambda *_: seen.append(1)
generator = lambda: iter([1])
app.test_request_context("/").push()
""",
        """
assert list(rows) == [1]
executor.shutdown()
for thread in threading.enumerate():
    if thread is not threading.current_thread():
        thread.join()
assert len(seen) == 3, seen
""",
    ),
    "docs/works-with.md": (
        "",
        """
app.app.add_url_rule("/orders", "orders", lambda: "")
with app.test_client() as client:
    answer = client.get("/orders")
    assert len(answer.headers["X-Trace-ID"]) == 32, answer.headers
""",
    ),
}


def run(code: str, folder: Path, **variables: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(PYTHONPATH=str(ROOT), **variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", AROUND)
def test_the_examples_of_a_page_run(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    before, after = AROUND[name]
    variables = {}
    if "REDIS_URL" in before:
        variables["REDIS_URL"] = request.getfixturevalue("redis_url")
    examples = "\n".join(block.code for block in blocks(ROOT / name, "python"))
    # The one place that does not exist.
    examples = re.sub(r'session\.post\("http://shop\.example.*', "", examples)
    run(f"{before}\n{examples}\n{after}", tmp_path, **variables)


def test_the_examples_of_testing_run(tmp_path: Path) -> None:
    fixtures, plain = (block.code for block in blocks(DOCS / "testing.md", "python"))
    application = f"""{APP}
from opentelemetry import trace
BodyTrace(app, ids="order.id=orderId")
@app.post("/orders")
def create():
    with trace.get_tracer("shop").start_as_current_span("charge card"):
        return ""
def make_app():
    return app
"""
    (tmp_path / "test_page.py").write_text(application + fixtures)
    run(
        "import pytest, sys; sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider']))",
        tmp_path,
    )
    # The ids are those of a new recording: the first trace is 1.
    run(application + plain, tmp_path)


def test_every_example_is_run_somewhere() -> None:
    tests = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    elsewhere = {"README.md", "README.zh.md", "docs/tutorial.md", "docs/testing.md"}
    # Checked by mypy: tests/typing.
    elsewhere.add("docs/howto/types.md")
    untested = [
        f"{name_of(page)}: {block.title or block.code[:60]!r}"
        for page in PAGES
        for block in blocks(page, "python")
        if name_of(page) not in elsewhere | set(AROUND)
        and not (block.title and f'"{block.title.removesuffix(".py")}' in tests)
    ]
    assert not untested
