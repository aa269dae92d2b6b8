"""Web sockets, which take the connection out of the server's input object, as they do in stock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from simple_websocket import Client

ROOT = Path(__file__).parents[2]
APP = """
import sys
from flask import Flask, g
from opentelemetry.sdk.trace import TracerProvider
from flask_bodytrace import BodyTrace

app = Flask("sockets")
BodyTrace(app, tracer_provider=TracerProvider(), ids="order.id=query:order")
"""
SOCK = """
from flask_sock import Sock

sock = Sock(app)


@sock.route("/echo")
def echo(ws):
    trace = g.trace.trace_id
    while True:
        ws.send(f"{ws.receive()} {trace} {g.trace.ids['order.id']}")
"""
WERKZEUG = """
from werkzeug.serving import make_server
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""
GEVENT = """
from gevent.pywsgi import WSGIServer
server = WSGIServer(("127.0.0.1", 0), app, log=None)
server.start()
print(server.server_port, flush=True)
server.serve_forever()
"""
PATCH = "from gevent import monkey; monkey.patch_all()\n"
SOCKETIO = """
from flask import request
from flask_socketio import SocketIO, emit

socketio = SocketIO(app, async_mode="gevent")


@socketio.on("order")
def order(data):
    emit("taken", {"data": data, "transport": request.environ.get("wsgi.url_scheme")})
"""


@contextmanager
def serving(code: str) -> Iterator[int]:
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize(
    "server", [APP + SOCK + WERKZEUG, PATCH + APP + SOCK + GEVENT], ids=["werkzeug", "gevent"]
)
def test_flask_sock(server: str) -> None:
    with serving(server) as port:
        client = Client(
            f"ws://127.0.0.1:{port}/echo?order=A",
            headers={"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"},
        )
        for number in range(3):
            client.send(f"message {number}")
            assert client.receive(timeout=20) == f"message {number} {'1' * 32} A"
        client.close()


@pytest.mark.parametrize("transport", ["polling", "websocket"])
def test_flask_socketio_on_gevent(transport: str) -> None:
    socketio = pytest.importorskip("socketio")
    with serving(PATCH + APP + SOCKETIO + GEVENT) as port:
        with socketio.SimpleClient() as client:
            client.connect(f"http://127.0.0.1:{port}", transports=[transport])
            assert client.transport == transport
            client.emit("order", {"id": 7, "note": "x" * 100_000})
            name, answer = client.receive(timeout=20)
        assert name == "taken"
        assert (answer["data"]["id"], len(answer["data"]["note"])) == (7, 100_000)
