"""WSGI servers as processes of their own, and an HTTP client that sends any bytes it is told to."""

from __future__ import annotations

import importlib.util
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
APPLICATION = "tests.body.served:application"
MEMORY_LIMIT = 256 * 1024
BODY_LIMIT = 2 * 1024 * 1024
"""Of the applications served, bytes: small, so that tests over them are quick."""
WAIT = 20.0
_BIN = Path(sys.executable).parent


def _gunicorn(*options: str) -> list[str]:
    return [
        sys.executable, "-m", "gunicorn", "-b", "127.0.0.1:{port}", "--log-level", "error",
        "--keep-alive", "30", "--no-control-socket", *options, "{app}",
    ]  # fmt: skip


def _python(code: str) -> list[str]:
    load = "import sys\nfrom {module} import {name} as app\n"
    return [sys.executable, "-c", load + code]


COMMANDS = {
    "werkzeug": _python(
        "from werkzeug.serving import run_simple\n"
        "run_simple('127.0.0.1', {port}, app, threaded=True)"
    ),
    "gunicorn-sync": _gunicorn(),
    "gunicorn-gthread": _gunicorn("-k", "gthread", "--threads", "{threads}"),
    "gunicorn-gevent": _gunicorn("-k", "gevent"),
    "waitress": _python(
        "from waitress import serve\nserve(app, host='127.0.0.1', port={port}, threads=4)"
    ),
    "cheroot": _python(
        "from cheroot.wsgi import Server\nServer(('127.0.0.1', {port}), app, numthreads=8).start()"
    ),
    "granian": [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--host", "127.0.0.1",
        "--port", "{port}", "--blocking-threads", "4", "--log-level", "error", "{app}",
    ],
    "uwsgi": [
        str(_BIN / "uwsgi"), "--http11-socket", "127.0.0.1:{port}", "--module", "{app}",
        "--master", "--threads", "4", "--die-on-term", "--need-app", "--disable-logging",
        "--buffer-size", "32768", "--socket-timeout", "5", "--virtualenv", sys.prefix,
    ],
    "bjoern": _python("import bjoern\nbjoern.run(app, '127.0.0.1', {port})"),
}  # fmt: skip

EARLY = frozenset({"waitress", "bjoern"})
"""Servers that read the whole body before they call the application."""


def missing(name: str) -> str | None:
    """Why this server cannot be had here; None if it can."""
    if name == "uwsgi":
        there = (_BIN / "uwsgi").exists()
    else:
        there = importlib.util.find_spec(name.partition("-")[0]) is not None
    if there:
        return None
    return f"{name} is not installed: it comes as source (see .ci/run for what building it needs)"


@dataclass
class Server:
    """A running server."""

    name: str
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    def connect(self) -> Connection:
        return Connection(socket.create_connection(("127.0.0.1", self.port), WAIT))

    def ask(
        self, path: str, body: bytes | None = b"", *, headers: str = "", method: str = "POST"
    ) -> Answer:
        """One request with a connection of its own."""
        with self.connect() as connection:
            connection.send(request(path, body, headers=headers, method=method))
            return connection.answer()


@contextmanager
def serving(
    name: str, directory: Path, *, threads: int = 8, **environment: str
) -> Iterator[Server]:
    """Run a server until the block ends."""
    port = free_port()
    module, _, attribute = APPLICATION.partition(":")
    command = [
        part.format(port=port, app=APPLICATION, module=module, name=attribute, threads=threads)
        for part in COMMANDS[name]
    ]
    log = directory / f"{name}-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "OTEL_TRACES_EXPORTER": "none",
                "OTEL_METRICS_EXPORTER": "none",
                "OTEL_LOGS_EXPORTER": "none",
                "TMPDIR": str(directory),
                **environment,
            },
        )
    server = Server(name, port, process, log)
    try:
        _wait_for(server)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_given: set[int] = set()


def free_port() -> int:
    """Not of the range that the kernel gives out: between here and the server, it could.

    No port is given twice.
    """
    while True:
        port = secrets.choice(range(10_000, 32_000))
        if port in _given:
            continue
        try:
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            continue
        _given.add(port)
        return port


def _wait_for(server: Server) -> None:
    deadline = time.monotonic() + WAIT
    while True:
        try:
            if server.ask("/state", None, method="GET").status == 200:
                return
        except (OSError, ValueError):
            if server.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{server.name}: {server.log.read_text()}") from None
            time.sleep(0.02)


def request(
    path: str,
    body: bytes | None = b"",
    *,
    headers: str = "",
    method: str = "POST",
    chunk: int = 0,
) -> bytes:
    """A request's bytes; with `chunk`, in chunks of that size; without a body, without a length."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{headers}"
    if body is None:
        return f"{head}\r\n".encode()
    if not chunk:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunked(body, chunk)


def chunked(body: bytes, size: int, *, end: bool = True) -> bytes:
    parts = []
    for start in range(0, len(body), size):
        piece = body[start : start + size]
        parts.append(b"%x\r\n%b\r\n" % (len(piece), piece))
    return b"".join(parts) + (b"0\r\n\r\n" if end else b"")


@dataclass
class Answer:
    """A response; `status` 0 is a connection closed without any."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def text(self) -> str:
        return self.body.decode()


class Connection:
    """One client connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self._file = sock.makefile("rb")

    def __enter__(self) -> Connection:  # noqa: PYI034 - Self is Python 3.11
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def end(self) -> None:
        """Say that nothing more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection off, as a crashed client's host does."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._file.close()
        self.socket.close()

    def line(self) -> bytes:
        return self._file.readline()

    def head(self) -> tuple[int, dict[str, str]]:
        try:
            status = self._file.readline()
        except ConnectionError:
            return 0, {}
        if not status:
            return 0, {}
        if not status.startswith(b"HTTP/1."):
            raise AssertionError(f"no status line: {status!r}")
        headers = {}
        while (line := self._file.readline().strip()) and b":" in line:
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        return int(status.split()[1]), headers

    def answer(self) -> Answer:
        """The next final response; its body, whichever way it ends."""
        status, headers = self.head()
        while status == 100:
            status, headers = self.head()
        if headers.get("transfer-encoding") == "chunked":
            return Answer(status, headers, b"".join(iter(self.chunk, b"")))
        if "content-length" in headers:
            return Answer(status, headers, self._file.read(int(headers["content-length"])))
        return Answer(status, headers, self._file.read() if status else b"")

    def chunk(self) -> bytes:
        """The next chunk of a chunked response; empty at the end."""
        size = int(self._file.readline(), 16)
        data = self._file.read(size)
        self._file.readline()
        return data
