"""docs/howto/servers.md: each command is run, alone and behind nginx, and its spans arrive."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import requests

from tests.body.servers import free_port
from tests.docs.pages import DOCS, blocks, the_file
from tests.docs.receiver import Receiver
from tests.docs.running import environment, running
from tests.example_app.programs import needed

pytestmark = pytest.mark.slow

PAGE = DOCS / "howto/servers.md"
SERVERS = [block.title for block in blocks(PAGE, "sh")]
BODY = b'{"orderId":  "ORD1"}'
HOW = {
    "uwsgi": "pip install uwsgi, with build-essential and python3-dev",
    "waitress-serve": "pip install waitress",
    "gunicorn": "pip install gunicorn",
}


def post(port: int, **headers: str) -> dict[str, object]:
    sent = {"Content-Type": "application/json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    answer = requests.post(f"http://127.0.0.1:{port}/orders", BODY, headers=sent, timeout=30)
    said: dict[str, object] = answer.json()
    assert answer.headers["X-Trace-ID"] == said["trace"]
    return said


def test_the_page_has_the_servers_it_says() -> None:
    assert SERVERS == ["gunicorn", "gevent", "uwsgi", "waitress"]


@pytest.mark.parametrize("name", SERVERS)
def test_the_command_serves_and_its_spans_arrive(
    name: str, tmp_path: Path, receiver: Receiver
) -> None:
    (tmp_path / "shop.py").write_text(the_file(PAGE, "shop.py"), "utf-8")
    command = the_file(PAGE, name)
    program = command.split()[0]
    needed(program, HOW[program])
    port = free_port()
    command = "exec " + command.replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    exporting = environment(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="50")
    with running(command, tmp_path, port, exporting):
        trace_id = "0af7651916cd43dd8448eb211c80319c"
        said = post(port, traceparent=f"00-{trace_id}-b7ad6b7169203331-01")
        assert said == {
            "order": "ORD1", "bytes": len(BODY), "trace": trace_id, "scheme": "http",
            "client": "127.0.0.1",
        }  # fmt: skip
        # While it runs: an exporter's thread is alive in the worker.
        receiver.wait_for("POST /orders", order_id="ORD1")


def test_behind_nginx_the_client_is_the_client(tmp_path: Path, receiver: Receiver) -> None:
    needed("nginx", "apt-get install nginx-light")
    needed("gunicorn", HOW["gunicorn"])
    (tmp_path / "shop.py").write_text(the_file(PAGE, "shop.py"), "utf-8")
    here, there = free_port(), free_port()
    (block,) = blocks(PAGE, "nginx")
    config = block.code.replace("127.0.0.1:8000", f"127.0.0.1:{here}")
    config = config.replace("127.0.0.1:8080", f"127.0.0.1:{there}")
    (tmp_path / "nginx.conf").write_text(config, "utf-8")
    # What nginx needs of a folder of one's own, and what Debian's package says elsewhere.
    nginx = f"exec nginx -p {tmp_path} -c nginx.conf -e error.log -g 'daemon off; pid nginx.pid;'"
    gunicorn = the_file(PAGE, "gunicorn").replace("127.0.0.1:8000", f"127.0.0.1:{here}")
    exporting = environment(OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, OTEL_BSP_SCHEDULE_DELAY="50")
    with (
        running(f"exec {gunicorn}", tmp_path, here, exporting),
        running(nginx, tmp_path, there, environment()),
    ):
        # What a client says of itself is not believed.
        said = post(there, X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https")
        assert (said["client"], said["scheme"]) == ("127.0.0.1", "http")
        _, attributes = receiver.wait_for("POST /orders", order_id="ORD1")
        assert attributes["client.address"] == attributes["network.peer.address"] == "127.0.0.1"
    logged = (tmp_path / "traced.log").read_text()
    assert re.search(rf'"POST /orders HTTP/1.1" 200 .* trace={said["trace"]}$', logged.strip())
