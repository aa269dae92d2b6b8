"""Case B1: any access to the body after any other one sees what it would see as the first."""

# ruff: noqa: PLW0108 - there is no request yet where the table is made

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from flask import Flask, request
from werkzeug.wrappers import Request

from flask_bodytrace import BodyTrace

JSON = json.dumps({"orderId": "ORD1", "note": "line one\nline two"}).encode()
FORM = b"orderId=ORD1&userId=U1&note=a%0Ab"
RAW = bytes(range(256)) * 3 + b"\nlast line"
PARTS = (
    b'--x\r\nContent-Disposition: form-data; name="orderId"\r\n\r\nORD1\r\n'
    b'--x\r\nContent-Disposition: form-data; name="file"; filename="f.txt"\r\n\r\nupload\n'
    b"\r\n--x--\r\n"
)
LARGE = 300_000


def _loop() -> bytes:
    parts = []
    size = int(request.environ["step"])
    while part := request.stream.read(size):
        parts.append(part)
    return b"".join(parts)


def _lines() -> bytes:
    parts = []
    while line := request.stream.readline():
        parts.append(line)
    return b"".join(parts)


def _second() -> tuple[Any, ...]:
    with Request(request.environ) as again:
        data = again.get_data()
        files = {name: file.read() for name, file in again.files.items()}
        return data, again.form.to_dict(), files


def _files() -> dict[str, bytes]:
    found = {}
    for name, file in request.files.items():
        file.seek(0)
        found[name] = file.read()
    return found


ACCESSES: dict[str, Callable[[], Any]] = {
    "get_data": lambda: request.get_data(),
    "data": lambda: request.data,
    "get_json": lambda: request.get_json(),
    "form": lambda: request.form.to_dict(),
    "files": _files,
    "values": lambda: request.values.to_dict(),
    "stream.read()": lambda: request.stream.read(),
    "stream.read(n)": _loop,
    "stream.readline()": _lines,
    "wsgi.input": lambda: request.environ["wsgi.input"].read(),
    "Request(environ)": _second,
}
RAW_ACCESSES = ["get_data", "stream.read()", "stream.read(n)", "stream.readline()", "wsgi.input"]


@dataclass(frozen=True)
class Kind:
    content_type: str
    body: bytes
    accesses: list[str]
    large: bytes


KINDS = {
    "urlencoded": Kind(
        "application/x-www-form-urlencoded",
        FORM,
        [*RAW_ACCESSES, "data", "form", "values", "Request(environ)"],
        FORM + b"&x=" + b"y" * LARGE,
    ),
    "multipart": Kind(
        "multipart/form-data; boundary=x",
        PARTS,
        [*RAW_ACCESSES, "data", "form", "files", "values", "Request(environ)"],
        PARTS.replace(b"upload\n", b"upload\n" * (LARGE // 7)),
    ),
    "JSON": Kind(
        "application/json",
        JSON,
        [*RAW_ACCESSES, "data", "get_json", "Request(environ)"],
        json.dumps({"x": "y" * LARGE}).encode(),
    ),
    "raw": Kind(
        "application/octet-stream",
        RAW,
        [*RAW_ACCESSES, "data", "Request(environ)"],
        RAW * (LARGE // len(RAW)),
    ),
}
ORDERS = [
    (kind, first, second)
    for kind, found in KINDS.items()
    for first in found.accesses
    for second in found.accesses
]


class _Once(io.RawIOBase):
    """A server's input: no seeking, and it ends."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)


def _ask(app: Flask, kind: Kind, body: bytes, *accesses: str, chunked: bool) -> list[Any]:
    environ: dict[str, Any] = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": kind.content_type,
        "wsgi.input": io.BufferedReader(_Once(body)),
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "step": 7 if len(body) < 10_000 else 4099,
    }
    if chunked:
        environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    else:
        environ["CONTENT_LENGTH"] = str(len(body))
    seen: list[Any] = []
    app.view_functions["read"] = lambda: _collect(seen, accesses)
    b"".join(app.wsgi_app(environ, lambda *_: None))  # type: ignore[arg-type]
    return seen


def _collect(seen: list[Any], accesses: tuple[str, ...]) -> str:
    for access in accesses:
        try:
            seen.append(ACCESSES[access]())
        except Exception as error:  # noqa: BLE001 - compared like any other outcome
            seen.append(type(error).__name__)
    return ""


def _app() -> Flask:
    app = Flask("orders")
    app.config["MAX_FORM_MEMORY_SIZE"] = 2 * LARGE
    app.add_url_rule("/", "read", lambda: "", methods=["POST"])
    return app


@pytest.fixture(scope="module")
def stock() -> Flask:
    return _app()


@pytest.fixture(scope="module")
def ours() -> Flask:
    app = _app()
    BodyTrace(app, memory_limit=LARGE // 3, metrics=False)
    return app


@cache
def _first(stock: Flask, kind: str, access: str, large: bool, chunked: bool) -> Any:
    """What stock Flask shows to the first access of a request."""
    found = KINDS[kind]
    body = found.large if large else found.body
    return _ask(stock, found, body, access, chunked=chunked)[0]


def _passes(
    app: Flask, stock: Flask, order: tuple[str, str, str], *, large: bool, chunked: bool
) -> bool:
    """Whether both accesses see what the first one of a request would see.

    One exception is Werkzeug's own: `data` gives the raw body of a form after `get_data`.
    """
    kind, *accesses = order
    found = KINDS[kind]
    body = found.large if large else found.body
    expected = [_first(stock, kind, access, large, chunked) for access in accesses]
    if accesses == ["get_data", "data"]:
        expected[1] = body
    return _ask(app, found, body, *accesses, chunked=chunked) == expected


def test_there_are_57_orders_and_more() -> None:
    assert len(ORDERS) >= 57


@pytest.mark.parametrize("order", ORDERS, ids=" ".join)
# B01
def test_order(ours: Flask, stock: Flask, order: tuple[str, str, str]) -> None:
    for large in (False, True):
        for chunked in (False, True):
            assert _passes(ours, stock, order, large=large, chunked=chunked), (large, chunked)


# B01
def test_stock_flask_passes_few_of_them(stock: Flask) -> None:
    passed = sum(_passes(stock, stock, order, large=False, chunked=False) for order in ORDERS)
    # Forms and JSON parsed once are kept; bytes are not. If this rises, the table proves less.
    assert passed < len(ORDERS) / 2, f"{passed} of {len(ORDERS)}"
    print(f"stock Flask passes {passed} of {len(ORDERS)} orders")  # noqa: T201 - the figure


def _read_exactly() -> None:
    length = int(request.environ["CONTENT_LENGTH"])
    request.environ["wsgi.input"].read(length)


HOOKS: dict[str, Callable[[], None]] = {
    "get_data()": lambda: (request.get_data(), None)[1],
    "exactly CONTENT_LENGTH of the environ's": _read_exactly,
}


@pytest.mark.parametrize("captured", [False, True], ids=["", "captured, ids on"])
@pytest.mark.parametrize("hook", HOOKS)
def test_every_order_behind_a_hook_that_reads_the_body(
    stock: Flask, hook: str, *, captured: bool
) -> None:
    settings: dict[str, Any] = {"memory_limit": LARGE // 3, "metrics": False}
    if captured:
        settings |= {"capture_body": "always", "capture_response": "always", "ids": "orderId"}
    app = _app()
    BodyTrace(app, **settings)
    app.before_request(HOOKS[hook])
    failed = []
    for order in ORDERS:
        _, first, second = order
        if hook == "get_data()":
            # Of forms, `data` is the raw body after `get_data`: Werkzeug's own.
            left_out = "data" in (first, second)
        else:
            # A second reader of the environ's input cannot be told from the first one's loop.
            left_out = first in {"wsgi.input", "Request(environ)"}
        if not left_out:
            failed += [
                (order, large)
                for large in (False, True)
                if not _passes(app, stock, order, large=large, chunked=False)
            ]
    assert failed == []


@pytest.mark.parametrize("large", [False, True], ids=["small", "large"])
@pytest.mark.parametrize("kind", KINDS)
# B01
def test_all_in_a_row_twice(ours: Flask, kind: str, large: bool) -> None:
    found = KINDS[kind]
    body = found.large if large else found.body
    once = [access for access in found.accesses if access != "Request(environ)"]
    seen = _ask(ours, found, body, *once, *reversed(once), chunked=False)
    assert seen[: len(once)] == list(reversed(seen[len(once) :]))
    for access, value in zip(once, seen, strict=False):
        if access in RAW_ACCESSES:
            assert value == body
