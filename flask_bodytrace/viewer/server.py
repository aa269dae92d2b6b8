"""The viewer as a process of its own, receiving OTLP over HTTP."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server, select_address_family

from flask_bodytrace.settings import SHORTEST_TOKEN

from .access import Access, is_loopback
from .pages import Viewer
from .store import ALONE, TraceStore

if TYPE_CHECKING:
    from typing_extensions import Buffer

PORT = 4318
"""Where OTLP exporters send to unless told otherwise."""

TOKEN_VARIABLE = "FLASK_BODYTRACE_VIEWER_TOKEN"  # noqa: S105 - the name of one


class CannotServe(Exception):
    """The address cannot be listened on, or must not be."""


REQUEST_TIMEOUT = 60.0
"""Seconds in which a whole request has to arrive, its headers included."""
_IDLE = 30.0


class _DeadlineReader(io.RawIOBase):
    """Reads from a connection until a deadline, so that slow senders cannot hold their threads."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._deadline = monotonic() + REQUEST_TIMEOUT

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Buffer) -> int:
        left = self._deadline - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(min(left, _IDLE))
        return self._connection.recv_into(buffer)


class _Handler(WSGIRequestHandler):
    # A client that stops sending must not hold its thread.
    timeout = _IDLE

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_DeadlineReader(self.connection))

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Say nothing: pages that follow along ask every second."""


def make(
    host: str = "127.0.0.1", port: int = PORT, token: str = "", store: TraceStore | None = None
) -> BaseWSGIServer:
    """A server that listens already; it answers once it is run.

    :param port: 0 for any.
    :param store: where traces are kept; by default in memory, within `ALONE`.
    :param token: needed for every address that other machines reach.
    :raises CannotServe: the port is taken, the token is short, or others could look and there is no
        token.
    """
    if not token and not is_loopback(host):
        raise CannotServe(
            f"{host} can be reached from other machines: set {TOKEN_VARIABLE} to a secret that "
            "they must send, or listen on 127.0.0.1"
        )
    if "/" in host:
        raise CannotServe(f"cannot listen on {host}: name a host or an address")
    if token and len(token) < SHORTEST_TOKEN:
        raise CannotServe(
            f"{TOKEN_VARIABLE} has fewer than {SHORTEST_TOKEN} characters: use a longer one"
        )
    viewer = Viewer(TraceStore(ALONE) if store is None else store, Access(token), receives=True)
    try:
        return _listen(host, port, viewer)
    except (OSError, ValueError) as error:
        # A name that cannot be encoded is a ValueError.
        reason = getattr(error, "strerror", None) or error
        raise CannotServe(f"cannot listen on {host}:{port}: {reason}") from error


def _listen(host: str, port: int, viewer: Viewer) -> BaseWSGIServer:
    # Given a port that is taken, Werkzeug's server ends the process: so the socket is made here.
    with socket.create_server((host, port), family=select_address_family(host, port)) as listener:
        return make_server(
            host,
            port,
            viewer,
            threaded=True,
            request_handler=_Handler,
            fd=listener.fileno(),
        )


def url_of(server: BaseWSGIServer) -> str:
    """Where it can be reached, without a slash at the end."""
    host = f"[{server.host}]" if ":" in server.host else server.host
    return f"http://{host}:{server.port}"


@contextmanager
def running(server: BaseWSGIServer) -> Iterator[str]:
    """Run it in a thread; gives its URL."""
    # It looks 20 times a second whether it is to end: who waits for that waits no longer.
    thread = Thread(target=server.serve_forever, args=(0.05,), name="bodytrace-viewer", daemon=True)
    thread.start()
    try:
        yield url_of(server)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def token_from_environment() -> str:
    """The token, from the variable that sets it for applications too."""
    return os.environ.get(TOKEN_VARIABLE, "").strip()
