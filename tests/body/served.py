"""What the servers serve: applications with small limits, a plain one, and a look inside.

``/`` passes bodies over the limit on, ``/reject`` refuses them, ``/ids`` looks for business ids,
``/stock`` is bare Flask. The same
views everywhere, so that what differs is the package's doing.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_bodytrace import BodyNotReplayable, BodyTrace
from tests.body.figures import open_files, resident_bytes
from tests.body.servers import BODY_LIMIT, MEMORY_LIMIT

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


calls: dict[str, int] = {}
late: dict[str, str] = {}
late_done: dict[str, threading.Event] = {}


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _chunks(read: Callable[[int], bytes], size: int) -> bytes:
    parts = []
    while part := read(size):
        parts.append(part)
    return b"".join(parts)


def _hash(read: Callable[[int], bytes]) -> str:
    total = hashlib.sha256()
    while part := read(65_536):
        total.update(part)
    return total.hexdigest()


def ways() -> dict[str, Callable[[], bytes]]:
    return {
        "get_data": request.get_data,
        "nocache": lambda: request.get_data(cache=False),
        # The stream is looked up for each call, as a view does that has it from `request`.
        "stream": lambda: request.stream.read(),  # noqa: PLW0108 - see above
        "loop": lambda: _chunks(lambda size: request.stream.read(size), 10_007),  # noqa: PLW0108
        "lines": lambda: b"".join(request.stream),
        "input": lambda: request.environ["wsgi.input"].read(),  # noqa: PLW0108 - see above
    }


def make(**settings: Any) -> Flask:  # noqa: C901, PLR0915 - views, one below the other
    app = Flask(f"served{len(settings)}")
    if settings:
        BodyTrace(app, memory_limit=MEMORY_LIMIT, body_limit=BODY_LIMIT, metrics=False, **settings)

    @app.post("/read")
    def read() -> dict[str, Any]:
        name = request.args.get("call", "")
        calls[name] = calls.get(name, 0) + 1
        seen = []
        for way in request.args.get("ways", "get_data").split(","):
            try:
                data = ways()[way]()
            except BodyNotReplayable as error:
                seen.append(type(error).__name__)
            else:
                seen.append(f"{len(data)} {digest(data)}")
        return {"seen": seen, "length": request.environ.get("CONTENT_LENGTH")}

    @app.post("/upload")
    def upload() -> dict[str, Any]:
        uploaded = request.files["file"].read()
        raw = _chunks(lambda size: request.stream.read(size), 65_536)  # noqa: PLW0108 - looked up each time
        return {
            "file": f"{len(uploaded)} {digest(uploaded)}",
            "fields": request.form.to_dict(),
            "raw": f"{len(raw)} {digest(raw)}",
        }

    @app.post("/hash")
    def hashed() -> dict[str, str]:
        """Everything read twice, never all of it in memory."""
        found = {}
        if request.files:
            found["file"] = _hash(request.files["file"].stream.read)
        found["first"] = _hash(request.stream.read)
        found["second"] = _hash(request.environ["wsgi.input"].read)
        return found

    @app.post("/json")
    def json() -> Any:
        return request.get_json()

    @app.post("/form")
    def form() -> dict[str, Any]:
        return {"fields": len(request.form), "raw": len(request.stream.read())}

    @app.post("/unread")
    def unread() -> str:
        return "unread"

    @app.post("/first/<int:size>")
    def first(size: int) -> bytes:
        return request.stream.read(size)

    @app.post("/line")
    def line() -> Iterator[bytes]:
        stream = request.stream
        # One answer a line, as long as the client goes on.
        return iter(stream.readline, b"")

    @app.post("/streamed")
    def streamed() -> Response:
        environ = request.environ

        def generate() -> Iterator[bytes]:
            yield b"reads: "
            yield digest(environ["wsgi.input"].read()).encode()

        # With a length the connection need not be closed to tell the end.
        return Response(generate(), headers={"Content-Length": "71"})

    @app.post("/late/<key>")
    def read_late(key: str) -> str:
        stream = request.stream
        begin = late_done[key] = threading.Event()
        begun = threading.Event()

        def run() -> None:
            if "now" not in request_args:
                begin.wait(20)
            begun.set()
            try:
                late[key] = f"read {stream.read()!r}"
            except Exception as error:  # noqa: BLE001 - the name is what the test looks at
                late[key] = type(error).__name__
            finished.set()

        request_args = request.args.to_dict()
        finished = threading.Event()
        late_done[key + "-finished"] = finished
        threading.Thread(target=run, daemon=True).start()
        if "now" in request_args:
            begun.wait(20)
        return "later"

    @app.get("/late/<key>")
    def late_result(key: str) -> str:
        late_done[key].set()
        late_done[key + "-finished"].wait(20)
        return late.get(key, "still reading")

    @app.get("/state")
    def state() -> dict[str, Any]:
        return {
            "pid": os.getpid(),
            "files": open_files(),
            "resident": resident_bytes(),
            "calls": calls.get(request.args.get("call", ""), 0),
        }

    return app


application: WSGIApplication = DispatcherMiddleware(
    make(over_limit="pass"),
    {
        "/reject": make(over_limit="reject"),
        "/stock": make(),
        "/ids": make(ids="order.id=orderId,user.id=userId"),
    },
)
