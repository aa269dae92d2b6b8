"""An application that works as one with a language model does, and a client that asks it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, g, request, stream_with_context
from opentelemetry import context as otel_context
from traceloop.sdk import Traceloop
from traceloop.sdk.decorators import task, workflow
from werkzeug.serving import WSGIRequestHandler, make_server

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

CALLERS_SPAN = "2" * 16
_callers = count(1)


@task(name="look_up")
def look_up(order: str) -> str:
    """What every view comes down to."""
    return f"price of {order}"


@workflow(name="price")
def price(order: str) -> str:
    """A workflow with one task."""
    return look_up(order)


@workflow(name="price")
async def price_later(order: str) -> str:
    """The same as a coroutine."""
    return look_up(order)


@workflow(name="words")
def words() -> Iterator[str]:
    """The answer in two parts; the body is read while it is under way."""
    yield look_up("first")
    yield look_up(request.get_json()["orderId"])


@workflow(name="endless")
def endless_words() -> Iterator[str]:
    """An answer that ends when its client has gone."""
    while True:
        # Few and large: what the sockets' buffers take is far fewer spans than a batch's queue.
        yield look_up("one more") * 10_000


def make_app() -> Flask:
    """Views with workflows and tasks in them; nothing is attached to it."""
    app = Flask("shop")

    @app.post("/orders")
    def orders() -> dict[str, str]:
        order = request.get_json()["orderId"]
        if customer := request.args.get("customer"):
            Traceloop.set_association_properties({"customer": customer})
        return {
            "price": price(order),
            "trace": g.trace.trace_id,
            "again": request.get_data(as_text=True),
            "stream": request.stream.read().decode(),
        }

    @app.post("/decorated")
    @workflow(name="decorated")
    def decorated() -> dict[str, str]:
        return {"price": look_up(request.get_json()["orderId"])}

    @app.post("/stream")
    def stream() -> Response:
        return Response(stream_with_context(words()))

    @app.post("/endless")
    def endless() -> Response:
        return Response(endless_words())

    @app.post("/thread")
    def thread() -> dict[str, str]:
        with ThreadPoolExecutor(1) as pool:
            return {"price": pool.submit(price, request.get_json()["orderId"]).result()}

    @app.post("/coroutine")
    async def coroutine() -> dict[str, str]:
        return {"price": await price_later(request.get_json()["orderId"])}

    @app.post("/failing")
    @workflow(name="failing")
    def failing() -> str:
        raise ValueError(request.get_json()["orderId"])

    return app


def tenants(wsgi_app: WSGIApplication) -> WSGIApplication:
    """A middleware around it all that says whose requests these are."""

    def call(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        tenant = environ.get("HTTP_X_TENANT")
        if tenant is None:
            return wsgi_app(environ, start_response)
        # Traceloop leaves it in the context; who says it for one request has to take it back.
        before = otel_context.attach(otel_context.get_current())
        try:
            Traceloop.set_association_properties({"tenant": tenant})
            return wsgi_app(environ, start_response)
        finally:
            otel_context.detach(before)

    return call


@dataclass(frozen=True)
class Answer:
    """What a client sent and got.

    :param caller: the trace it asked in; empty if in none.
    :param sent: the body.
    """

    caller: str
    sent: str
    status: int
    headers: dict[str, str]
    text: str

    @property
    def trace_id(self) -> str:
        """The one that the answer names."""
        return self.headers["X-Trace-ID"]


class Client:
    """Posts orders to a port, by no library that Traceloop instruments."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def post(self, path: str, *, flags: str = "01", tenant: str = "") -> Answer:
        """Post an order.

        :param flags: of the caller's span; empty for no caller.
        :param tenant: whose it is, for `tenants`.
        """
        sent = json.dumps({"orderId": "ORD1", "card": "4111 1111 1111 1111"})
        headers = {"Content-Type": "application/json"}
        caller = f"{next(_callers):032x}" if flags else ""
        if caller:
            headers["traceparent"] = f"00-{caller}-{CALLERS_SPAN}-{flags}"
        if tenant:
            headers["X-Tenant"] = tenant
        asked = urllib.request.Request(self._url + path, sent.encode(), headers)  # noqa: S310 - http
        try:
            got = urllib.request.urlopen(asked, timeout=60)  # noqa: S310 - http
        except urllib.error.HTTPError as error:
            got = error
        with got:
            # Who leaves before the end has read something.
            text = got.read(100 if path == "/endless" else None).decode()
            return Answer(caller, sent, got.status, dict(got.headers), text)


@contextmanager
def served(app: Flask) -> Iterator[Client]:
    """Serve it, in `tenants`, by one thread, where what a request leaves meets the next one.

    :raises AssertionError: a request has left something.
    """
    left: list[dict[str, Any]] = []

    class Handler(WSGIRequestHandler):
        def run_wsgi(self) -> None:
            super().run_wsgi()
            left.append(dict(otel_context.get_current()))

        def log(self, *_: object) -> None:
            pass

    server = make_server("127.0.0.1", 0, tenants(app), request_handler=Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Client(server.server_port)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    # Nothing of any request stayed on its thread.
    assert left
    assert not any(left), left
