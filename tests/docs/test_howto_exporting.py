"""docs/howto/exporting.md: what is typed there sends spans there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.body.servers import free_port
from tests.docs.pages import DOCS, the_file
from tests.docs.receiver import Receiver
from tests.docs.running import BASH, environment, running

pytestmark = pytest.mark.slow

PAGE = DOCS / "howto/exporting.md"
SHOP = """
from flask import Flask
from flask_bodytrace import BodyTrace
app = Flask("shop")
BodyTrace(app)
app.add_url_rule("/", "index", lambda: "")
"""


@pytest.mark.parametrize("title", ["otlp", "zipkin"])
def test_spans_arrive_under_the_services_name(
    title: str, tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    port = free_port()
    command = the_file(PAGE, title)
    for listens in ("http://localhost:4318", "http://localhost:9411"):
        command = command.replace(listens, receiver.url)
    environ = environment(FLASK_RUN_PORT=str(port), OTEL_BSP_SCHEDULE_DELAY="50")
    with running(command, tmp_path, port, environ):
        urlopen(f"http://127.0.0.1:{port}/", timeout=20).close()
        service, _ = receiver.wait_for("GET /", http_route="/")
    assert service == "shop"


def test_check_tries_the_endpoint(tmp_path: Path, receiver: Receiver) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    nobody = f"http://127.0.0.1:{free_port()}"
    for url, status, said in ((receiver.url, 0, "ok"), (nobody, 1, "error: nobody")):
        done = subprocess.run(
            [BASH, "-c", the_file(PAGE, "check").replace("http://localhost:4318", url)],
            cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode, said in done.stdout) == (status, True), done.stdout + done.stderr


def test_a_provider_of_ones_own_prints(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(the_file(PAGE, "own_provider.py"), "utf-8")
    code = "import app; app.app.test_client().get('/'); app.provider.shutdown()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert '"name": "GET /"' in done.stdout
    assert '"service.name": "shop"' in done.stdout
