"""Which kinds of secrets leave the process in captured bodies, by agent, each as it comes.

``python -m benchmarks.secrets AGENT`` posts the corpus of ``tests/capture`` to an application
behind one agent, and looks for each secret in all that it sends to a server on loopback.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from werkzeug.test import Client

from tests.capture.corpus import FORMED, NAMED, SECRET, bodies

from . import subjects

AGENTS = ("ours_capturing", "apitally", "moesif")
_UNCOMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}


class Received(BaseHTTPRequestHandler):
    """Keeps what is posted."""

    kept: bytearray
    more: threading.Condition

    def do_POST(self) -> None:
        """Keep the body."""
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        data = _UNCOMPRESSED.get(self.headers.get("Content-Encoding", ""), bytes)(data)
        with self.more:
            self.kept += data
            self.more.notify_all()
        self._answer()

    def do_GET(self) -> None:
        """Moesif asks for its configuration."""
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing."""


def cases() -> dict[str, tuple[str, str, str]]:
    """The kinds of secrets: field, value, and the part that must not be seen."""
    found = {}
    for number, name in enumerate(NAMED):
        secret = f"{SECRET}-{number:03}"
        found[f"named {name}"] = (name, secret, secret)
    for form, (value, secret) in FORMED.items():
        found[f"form {form}"] = ("remark", value, secret)
    return found


LAST = "the last request"
"""A name that is no secret: when its value has arrived, so has all before it."""


def seen(agent: str) -> list[str]:
    """The kinds of secrets that an agent sends."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Received)
    Received.kept, Received.more = bytearray(), threading.Condition()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ["BENCH_HTTP"] = f"http://127.0.0.1:{server.server_address[1]}"
    os.environ["BENCH_EXPORT"] = "own"
    client = Client(subjects.make(agent))

    def post(data: bytes, content_type: str) -> None:
        address = {"REMOTE_ADDR": "127.0.0.1"}
        with client.post("/take", data=data, content_type=content_type, environ_base=address) as it:
            it.get_data()

    for field, value, _ in cases().values():
        for data, content_type in bodies(field, value).values():
            post(data, content_type)
    last = f"{LAST} {os.getpid()}"
    end = time.monotonic() + 60
    while time.monotonic() < end and last.encode() not in Received.kept:
        post(json.dumps({"note": last}).encode(), "application/json")
        for provider in subjects.exporting:
            provider.force_flush()
        with Received.more:
            Received.more.wait(2)
    if last.encode() not in Received.kept:
        raise RuntimeError(f"{agent} has sent nothing, or not to the end")
    return [kind for kind, (_, _, secret) in cases().items() if secret.encode() in Received.kept]


def measure() -> dict[str, list[str]]:
    """By agent, the kinds of secrets that it sends; each agent in a process of its own."""
    found = {}
    for agent in AGENTS:
        output = subprocess.run(
            [sys.executable, "-m", __spec__.name, agent],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        found[agent] = json.loads(output.splitlines()[-1])
    return found


if __name__ == "__main__":
    print(json.dumps(seen(sys.argv[1])))
