"""Request classes, form parsers and inputs of any kind: as stock Flask has them, side by side."""

from __future__ import annotations

import copy
import functools
import gzip
import io
import tempfile
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, Request, g, request
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.datastructures import ImmutableDict
from werkzeug.formparser import FormDataParser
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bodytrace import BodyTrace, CachedBody
from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.body.state import BodyRules

if TYPE_CHECKING:
    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

JSON = b'{"a": 1}'
FORM = b"a=1&b=2"
MULTIPART = (
    b'--X\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
    b'--X\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\nfile\r\n--X--\r\n'
)
BODIES = {
    "application/json": JSON,
    "application/x-www-form-urlencoded": FORM,
    "multipart/form-data; boundary=X": MULTIPART,
    "text/plain": b"text",
}


def answers(
    view: Callable[[], Any],
    content_type: str,
    request_class: Any = Request,
    source: Callable[[bytes], Any] = io.BytesIO,
) -> tuple[str, str]:
    """What stock Flask answers, and what it does with the extension."""
    return tuple(  # type: ignore[return-value]
        _answer(view, content_type, request_class, source, attached=attached)
        for attached in (False, True)
    )


def _answer(
    view: Callable[[], Any],
    content_type: str,
    request_class: Any,
    source: Callable[[bytes], Any],
    *,
    attached: bool,
) -> str:
    app = Flask("requests")
    app.request_class = request_class
    if attached:
        BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    app.add_url_rule("/", view_func=lambda: repr(view()), endpoint="view", methods=["POST"])
    body = BODIES[content_type]
    environ = EnvironBuilder(method="POST").get_environ()
    environ |= {"wsgi.input": source(body), "CONTENT_LENGTH": str(len(body))}
    environ["CONTENT_TYPE"] = content_type
    chunks, status, _ = run_wsgi_app(app, environ, buffered=True)
    return f"{status}: {b''.join(chunks).decode()}"


class Untouchable:
    """The input of a client that has not sent its body yet."""

    def read(self, _size: int) -> bytes:
        raise AssertionError("read")


@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
@pytest.mark.parametrize("name", ["form", "files", "values"])
def test_what_is_no_form_is_not_waited_for(name: str, content_type: str) -> None:
    stock, ours = answers(
        lambda: dict(getattr(request, name)), content_type, source=lambda _: Untouchable()
    )
    assert ours == stock == "200 OK: {}"


class OwnStreamForForms(Request):
    def _get_stream_for_parsing(self) -> Any:
        return io.BytesIO(b"own=1")


class TakesNothing(FormDataParser):
    def parse(self, stream: Any, *_: Any) -> Any:
        return stream, self.cls(), self.cls()


class TakesJson(FormDataParser):
    def parse(self, stream: Any, mimetype: str, *more: Any) -> Any:
        if mimetype != "application/json":
            return super().parse(stream, mimetype, *more)
        return stream, self.cls({"json": stream.read().decode()}), self.cls()


class GivesAnotherStream(FormDataParser):
    def parse(self, _stream: Any, *_: Any) -> Any:
        return io.BytesIO(b"another"), self.cls(), self.cls()


class Upper(Request):
    @property
    def stream(self) -> Any:
        return io.BytesIO(super().stream.read().upper())


def with_parser(parser: type[FormDataParser]) -> type[Request]:
    return type("WithParser", (Request,), {"form_data_parser_class": parser})


CLASSES = {
    "own stream": OwnStreamForForms,
    "takes nothing": with_parser(TakesNothing),
    "takes json": with_parser(TakesJson),
    "gives another": with_parser(GivesAnotherStream),
    "upper": Upper,
    "ImmutableDict": type("Once", (Request,), {"parameter_storage_class": ImmutableDict}),
    "dict": type("Plain", (Request,), {"parameter_storage_class": dict}),
}


@pytest.mark.parametrize("content_type", BODIES)
@pytest.mark.parametrize("request_class", CLASSES.values(), ids=CLASSES)
@pytest.mark.parametrize(
    "view",
    [
        lambda: request.data,
        lambda: (request.data, request.data),
        lambda: request.get_data(parse_form_data=True, as_text=True),
        lambda: dict(request.form),
        lambda: {name: file.read() for name, file in request.files.items()},
        lambda: (request.files is request.files, len(request.files)),
    ],
    ids=["data", "twice", "text", "form", "files", "same files"],
)
def test_a_request_class_of_the_applications_own_sees_what_it_sees_in_stock(
    view: Callable[[], Any], request_class: type[Request], content_type: str
) -> None:
    stock, ours = answers(view, content_type, request_class)
    assert ours == stock
    assert ours.startswith("200")


@pytest.mark.parametrize("name", ["upper", "gunzips"])
@pytest.mark.parametrize("attached", [False, True])
def test_a_stream_that_is_made_at_each_access_has_an_end(name: str, attached: bool) -> None:
    class Gunzips(Request):
        @property
        def stream(self) -> Any:
            return gzip.GzipFile(fileobj=super().stream)

    app = Flask("own")
    app.request_class = {"upper": Upper, "gunzips": Gunzips}[name]
    if attached:
        BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))

    @app.post("/")
    def view() -> Any:
        pieces = [b"".join(iter(lambda: request.stream.read(3), b"")) for _ in range(2)]
        return b",".join(pieces)

    body = gzip.compress(b"abcdef") if name == "gunzips" else b"abcdef"
    first = {"upper": b"ABC,", "gunzips": b"abc,"}[name]
    assert app.test_client().post("/", data=body).data == first


class Gunzipped(Request):
    @functools.cached_property
    def stream(self) -> Any:
        return gzip.GzipFile(fileobj=self.environ["wsgi.input"])


class Kept(Request):
    @functools.cached_property
    def stream(self) -> Any:
        return self.environ["wsgi.input"]


def replaced_by_gunzipped() -> Any:
    stream: Any = gzip.GzipFile(fileobj=request.environ["wsgi.input"])
    request.stream = stream
    return stream


@pytest.mark.parametrize("name", ["of the class", "set"])
@pytest.mark.parametrize(
    "view",
    [
        lambda stream: (stream.read(1), request.get_data()),
        lambda stream: (stream.peek(1)[:1], request.get_json(force=True)),
        lambda stream: (stream.read(1), request.get_data(), stream.read()),
    ],
    ids=["data", "peek", "end"],
)
def test_a_stream_that_is_kept_goes_on_where_it_is(
    view: Callable[[Any], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(BODIES, "text/plain", gzip.compress(JSON))
    stock, ours = answers(
        lambda: view(replaced_by_gunzipped() if name == "set" else request.stream),
        "text/plain",
        Request if name == "set" else Gunzipped,
    )
    assert ours == stock
    assert ours.startswith("200")


@pytest.mark.parametrize("content_type", BODIES)
def test_data_of_a_form_that_a_kept_stream_gave_is_empty(content_type: str) -> None:
    stock, ours = answers(lambda: (request.data, request.form), content_type, Kept)
    assert ours == stock
    assert ours.startswith("200")


def kinds_of_file() -> list[bool]:
    stream: Any = request.files["f"].stream
    return [
        isinstance(stream, kind)
        for kind in (io.IOBase, tempfile.SpooledTemporaryFile, io.BytesIO, io.RawIOBase)
    ]


class InMemory(Request):
    def _get_file_stream(self, *_: Any, **__: Any) -> Any:
        return io.BytesIO()


@pytest.mark.parametrize("request_class", [Request, InMemory])
def test_an_uploaded_file_is_of_the_kind_it_is_in_stock(request_class: type[Request]) -> None:
    stock, ours = answers(kinds_of_file, "multipart/form-data; boundary=X", request_class)
    assert ours == stock
    assert ours.startswith("200")


def test_an_uploaded_file_in_memory_can_be_copied() -> None:
    stock, ours = answers(
        lambda: copy.copy(request.files["f"].stream).read(),
        "multipart/form-data; boundary=X",
        InMemory,
    )
    assert ours == stock == "200 OK: b'file'"


def replaced_and_deleted() -> bytes:
    request.stream = io.BytesIO(b"replaced")
    del request.stream
    return request.stream.read()


def test_a_stream_that_was_replaced_can_be_taken_away_again() -> None:
    stock, ours = answers(replaced_and_deleted, "text/plain")
    assert ours == stock == "200 OK: b'text'"


class Mutable(io.BytesIO):
    """A wrapper that gives what others may change afterwards."""

    def read(self, size: int | None = -1, /) -> Any:
        return bytearray(super().read(size))

    def readline(self, size: int | None = -1, /) -> Any:
        return bytearray(super().readline(size))


@pytest.mark.parametrize(
    "view",
    [
        lambda: request.get_data(cache=False),
        lambda: request.stream.read(-1),
        lambda: request.stream.read(3),
        lambda: request.stream.readline(-1),
        lambda: io.TextIOWrapper(io.BufferedReader(request.stream)).read(),  # type: ignore[type-var]
    ],
    ids=["get_data", "read", "piece", "line", "text"],
)
def test_what_is_read_is_bytes_whatever_a_wrapper_gives(view: Callable[[], Any]) -> None:
    stock, ours = answers(view, "text/plain", source=Mutable)
    assert ours == stock
    assert ours.startswith("200")


def peeked() -> list[bytes]:
    stream = request.environ["wsgi.input"]
    seen = [stream.peek(2)[:2], stream.read(2), stream.peek(1)[:1]]
    return [*seen, stream.read(2), stream.peek(1)[:1]]


def test_peeking_moves_nothing_and_does_not_reach_past_us() -> None:
    """To the server's own buffer, which is further on, or would wait for another request."""
    stock, ours = answers(
        peeked, "text/plain", source=lambda data: io.BufferedReader(io.BytesIO(data))
    )
    assert ours == stock == "200 OK: [b'te', b'te', b'x', b'xt', b'']"


def test_peeking_does_not_take_from_what_can_be_read_once() -> None:
    rules = BodyRules(BufferPool(largest=0, limit=0), 10, 10)
    environ: dict[str, Any] = {"wsgi.input": io.BytesIO(b"x" * 20), "CONTENT_LENGTH": "20"}
    body = CachedBody(environ, rules)
    with pytest.raises(io.UnsupportedOperation):
        body.open().peek(1)
    assert body.open().read() == b"x" * 20
    stream = body.open()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        stream.peek()
    body.close()


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("source", [{}, {"wsgi.input": None}], ids=["missing", "None"])
def test_an_environ_without_an_input_is_a_request_without_a_body(
    make_app: MakeApp, spans: SpanRecorder, source: dict[str, Any], method: str
) -> None:
    """PEP 3333 asks for one; some adapters leave it out."""
    app = make_app(ids="a")
    app.add_url_rule("/", view_func=lambda: request.data, methods=["GET", "POST"])
    environ = EnvironBuilder(method=method).get_environ()
    del environ["wsgi.input"]
    chunks, status, _ = run_wsgi_app(app, environ | source, buffered=True)
    assert (status, b"".join(chunks)) == ("200 OK", b"")
    spans.one(f"{method} /")


@pytest.mark.parametrize("attached_first", [True, False])
def test_classes_may_be_functions(attached_first: bool, make_app: MakeApp) -> None:
    """Flask only calls them."""
    app = make_app() if attached_first else Flask("functions")
    app.request_class = functools.partial(Request)  # type: ignore[assignment]
    app.app_ctx_globals_class = lambda: types.SimpleNamespace(mine=1)  # type: ignore[assignment,return-value]
    if not attached_first:
        BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    app.add_url_rule("/", view_func=lambda: request.get_data() * g.mine, methods=["POST"])
    assert app.test_client().post("/", data=b"body").data == b"body"


def test_g_answers_as_the_applications_own(make_app: MakeApp) -> None:
    app = make_app()

    class Globals(app.app_ctx_globals_class):  # type: ignore[name-defined,misc]
        shared = "of the class"

        def get(self, name: str, default: Any = None) -> Any:
            return "magic" if name == "magic" else super().get(name, default)

        def __contains__(self, item: str) -> bool:
            return item == "magic" or super().__contains__(item)

    app.app_ctx_globals_class = Globals
    with app.test_request_context():
        assert [g.get("magic"), g.get("shared", 1), g.get("get", 2), g.get("nothing")] == [
            "magic", 1, 2, None,
        ]  # fmt: skip
        assert "magic" in g
        assert "get" not in g
        assert "trace" in g
        assert g.get("trace") is g.trace
