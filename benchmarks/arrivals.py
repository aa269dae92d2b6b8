"""Whether an agent really sends the bodies of all requests and answers.

``python -m benchmarks.arrivals AGENT`` posts orders to an application behind the agent, each with a
number of its own, and looks for each number in what arrives at a server on loopback.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import agents, sink, subjects

REQUESTS = 1000
_UNCOMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
}
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{24,}={0,2}")


class Received:
    """What was posted to the server, uncompressed; `more` tells of more."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.more = threading.Condition()

    def take(self, data: bytes) -> None:
        """Keep a body, and what is in it as base64, which Monoscope and Moesif send bodies as."""
        with self.more:
            self.data += data
            for coded in _BASE64.findall(data):
                # What comes before it may be of the same characters.
                for start in range(4):
                    whole = coded[start : len(coded) - (len(coded) - start) % 4]
                    self.data += b"\n" + base64.b64decode(whole)
            self.more.notify_all()


class _Handler(BaseHTTPRequestHandler):
    received: Received

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.received.take(_UNCOMPRESSED.get(self.headers.get("Content-Encoding", ""), bytes)(data))
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = sink.answer(self.requestline)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024


@contextmanager
def receiving() -> Iterator[tuple[Received, dict[str, str]]]:
    """What a server of this process gets, and the variables that send spans there."""
    received = Received()
    handler = type("_Handler", (_Handler,), {"received": received})
    with _Server(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield (
                received,
                {
                    "BENCH_HTTP": f"http://127.0.0.1:{server.server_address[1]}",
                    "BENCH_GRPC": f"http://127.0.0.1:{sink.grpc_server(received.take)}",
                    "BENCH_EXPORT": "own",
                },
            )
        finally:
            server.shutdown()


def arrived(agent: str) -> dict[str, int]:
    """How many of `REQUESTS` bodies of requests and of answers an agent has sent."""
    with receiving() as (received, variables):
        os.environ |= variables
        application = subjects.make(agent)
        for number in range(REQUESTS):
            order = {
                "orderId": f"sent-{number:06}",
                "userId": "U-10001",
                "note": f"only-{number:06}",
            }
            body = json.dumps(order).encode()
            environ = subjects.environ(body)
            environ["PATH_INFO"] = f"/orders/{7_000_000 + number}"
            subjects.caller(application, environ, body)()
        for send in subjects.unsent:
            send()
        with received.more:
            plain = received.data.replace(b"\\", b"").replace(b" ", b"")
    # The note is in requests only; a number called that is in answers only.
    return {
        "requests": len(set(re.findall(rb'"note":"only-(\d{6})"', plain))),
        "answers": len(set(re.findall(rb'"number":(7\d{6})', plain))),
    }


def check(agent: str) -> None:
    """Run an agent in a process of its own.

    :raises RuntimeError: it does not send all bodies.
    """
    counts = agents.output_of(__spec__.name, agent)
    if counts != {"requests": REQUESTS, "answers": REQUESTS}:
        raise RuntimeError(f"{agent} sends {counts} of {REQUESTS}")


if __name__ == "__main__":
    print(json.dumps(arrived(sys.argv[1])))
