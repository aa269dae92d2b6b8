"""The body as a file with manners: what servers, wrappers and readers of any kind expect of it."""

from __future__ import annotations

import copy
import gzip
import io
import pickle
import sys
import tempfile
from collections.abc import Callable
from functools import cached_property
from typing import IO, Any

import pytest
from flask import Flask, Request, request
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.datastructures import ImmutableMultiDict, MultiDict
from werkzeug.exceptions import ClientDisconnected
from werkzeug.test import EnvironBuilder, run_wsgi_app

from flask_bodytrace import BodyTrace, CachedBody
from flask_bodytrace.body.input import declared_length, is_chunked
from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.body.state import BodyRules
from flask_bodytrace.wsgi import BodyTraceMiddleware

LIMIT = 1 << 20


def rules(**changes: Any) -> BodyRules:
    return BodyRules(BufferPool(largest=1 << 18, limit=1 << 20), 1 << 18, LIMIT, **changes)


def app_of(view: Callable[[], Any], **settings: Any) -> Flask:
    app = Flask("manners")
    BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False), **settings)
    app.add_url_rule("/", "view", view, methods=["POST"])
    return app


class Counting:
    """A server's input that counts what is taken from it; ends itself."""

    def __init__(self, data: bytes) -> None:
        self.buffer = io.BytesIO(data)
        self.calls = 0

    def read(self, size: int) -> bytes:
        self.calls += 1
        return self.buffer.read(size)


@pytest.mark.parametrize("passed_on", [False, True])
@pytest.mark.parametrize("size", [1, 2])
def test_a_line_costs_what_it_weighs(size: int, passed_on: bool) -> None:
    """Twice the line, twice the calls: counted in calls of the body, not by a clock."""
    whole = size * LIMIT // 4
    if passed_on:
        whole += LIMIT
    source = Counting(b"x" * whole)
    body = CachedBody({"wsgi.input": source, "wsgi.input_terminated": True}, rules())
    asked = 0
    line_at = CachedBody.line_at

    class Watched(CachedBody):
        __slots__ = ()

        def line_at(self, position: int, size: int | None) -> bytes:
            nonlocal asked
            asked += 1
            return line_at(self, position, size)

    body.__class__ = Watched
    assert len(body.open().readline()) == whole
    assert asked <= whole // 8192 + 2
    assert source.calls <= asked + 2
    body.close()


def test_lines_of_one_byte_copy_nothing_but_themselves() -> None:
    source = Counting(b"\n" * 20_000)
    body = CachedBody({"wsgi.input": source, "wsgi.input_terminated": True}, rules())
    stream = body.open()
    assert stream.readline() == b"\n"
    # What was read beyond the line is pointed at: the rest of it is the same object still.
    held = body.ahead
    assert stream.readline() == b"\n"
    assert body.ahead is held
    assert list(stream) == [b"\n"] * 19_998
    body.close()


@pytest.mark.parametrize(
    ("value", "chunked"),
    [
        *(("chunked", True), ("Chunked", True), ("gzip, chunked", True), (" chunked\t", True)),
        *(("gzip ,\tchunked ", True), ("xchunked", False), ("chunked, gzip", False)),
        *(("chunkedx", False), ("identity", False), ("", False), ("chunked;q=1", False)),
    ],
)
def test_the_last_transfer_coding_decides(value: str, chunked: bool) -> None:
    assert is_chunked(value) is chunked


@pytest.mark.parametrize(
    ("text", "length"),
    [
        *(("5", 5), (" 5", 5), ("5 ", 5), ("\t5\t", 5), ("5, 5", 5), ("5,5 ,\t5", 5)),
        *(("5, 6", -1), ("5,", -1), ("5 5", -1), ("+5", -1), ("\xb2", -1), ("5;", -1)),
    ],
)
def test_content_length_is_read_as_its_rfc_says(text: str, length: int) -> None:
    environ = {"CONTENT_LENGTH": text, "wsgi.input": io.BytesIO()}
    assert declared_length(environ) == length


def test_an_input_that_ends_itself_is_read_to_its_end() -> None:
    """Apache below a filter that inflates: Content-Length is that of what came in."""
    inflated = b"x" * 5026

    class ModWsgi(Counting):
        pass

    app = app_of(lambda: str(len(request.get_data())))
    for source in (ModWsgi(inflated), io.BufferedReader(io.BytesIO(inflated))):
        answer = app.test_client().post(
            "/",
            environ_overrides={
                "wsgi.input": source,
                "wsgi.input_terminated": True,
                "CONTENT_LENGTH": "68" if isinstance(source, ModWsgi) else "5026",
            },
        )
        assert answer.text == "5026"


def test_a_length_that_the_server_counted_holds_beside_transfer_encoding() -> None:
    """nginx with uwsgi_pass: the chunks are taken apart already, and nobody ends the input."""
    app = app_of(whole)
    answer = app.test_client().post(
        "/",
        environ_overrides={
            "wsgi.input": Counting(b"x" * 46 + b"the next request"),
            "wsgi.input_terminated": False,
            "CONTENT_LENGTH": "46",
            "HTTP_TRANSFER_ENCODING": "chunked",
            "uwsgi.version": b"2",
        },
    )
    assert answer.data == b"x" * 46


class Gunzipping(Request):
    @property
    def stream(self) -> Any:
        return gzip.GzipFile(fileobj=super().stream)


class Cached(Request):
    @cached_property
    def stream(self) -> IO[bytes]:
        return io.BytesIO(gzip.GzipFile(fileobj=super().stream).read())


@pytest.mark.parametrize("derived", [False, True])
@pytest.mark.parametrize("request_class", [Gunzipping, Cached])
@pytest.mark.parametrize(
    "read",
    [
        lambda: request.get_data(as_text=True),
        lambda: str(request.get_json()["a"]),
        lambda: request.stream.read().decode(),
        lambda: (request.get_data(), request.get_data(as_text=True))[1],
    ],
    ids=["get_data", "get_json", "stream", "twice"],
)
def test_a_stream_of_the_applications_own_stays_in_front(
    request_class: type[Request], read: Callable[[], str], derived: bool
) -> None:
    app = Flask("own")
    app.request_class = request_class
    if derived:
        # From the class that the application has by then, as extensions do.
        app.request_class = Request
    BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    if derived:
        app.request_class = type("Derived", (request_class, app.request_class), {})
    app.add_url_rule("/", "view", read, methods=["POST"])
    body = gzip.compress(b'{"a": 1}')
    answer = app.test_client().post("/", data=body, content_type="application/json")
    assert answer.text in {'{"a": 1}', "1"}


def test_a_form_is_parsed_from_a_stream_of_the_applications_own() -> None:
    app = Flask("own")
    app.request_class = Gunzipping
    BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))
    app.add_url_rule("/", "view", lambda: dict(request.form), methods=["POST"])
    form = "application/x-www-form-urlencoded"
    answer = app.test_client().post("/", data=gzip.compress(b"a=b&c=d"), content_type=form)
    assert answer.json == {"a": "b", "c": "d"}


class LikeWerkzeug(Request):
    """What docs/works-with.md gives to connexion 2."""

    def get_data(
        self, cache: bool = True, as_text: bool = False, parse_form_data: bool = False
    ) -> Any:
        parse_form_data = parse_form_data or "form" in vars(self)
        return super().get_data(cache, as_text, parse_form_data)  # type: ignore[call-overload]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("request_class", [Request, LikeWerkzeug])
def test_a_class_of_the_applications_own_can_leave_a_parsed_form_without_raw_data(
    request_class: type[Request], attached: bool
) -> None:
    app = Flask("own")
    app.request_class = request_class
    if attached:
        BodyTrace(app, tracer_provider=TracerProvider(shutdown_on_exit=False))

    @app.post("/<order>")
    def view(order: str) -> Any:
        before = request.get_data(cache=False) if order == "raw" else b""
        return [before.decode(), dict(request.form), request.get_data(as_text=True)]

    def ask(order: str, **sent: Any) -> Any:
        return app.test_client().post(f"/{order}", **sent).json

    raw_after_form = "a=b" if attached and request_class is Request else ""
    assert ask("form", data={"a": "b"}) == ["", {"a": "b"}, raw_after_form]
    assert ask("form", json=[1]) == ["", {}, "[1]"]
    if attached:
        # A hook that checks a signature.
        assert ask("raw", data={"a": "b"}) == ["a=b", {"a": "b"}, raw_after_form]


class QuotaExceeded(Exception):
    pass


def whole() -> bytes:
    return request.get_data()


def piece() -> bytes:
    return request.stream.read(5)


@pytest.mark.parametrize("error", [QuotaExceeded, TypeError, ValueError, RuntimeError, KeyError])
@pytest.mark.parametrize("read", [whole, piece], ids=["get_data", "stream"])
def test_what_a_wrapper_raises_is_its_own(
    error: type[Exception], read: Callable[[], bytes]
) -> None:
    class Quota:
        def read(self, _size: int) -> bytes:
            raise error("over")

    app = app_of(read)
    app.register_error_handler(error, lambda _: ("quota", 429))
    answer = app.test_client().post(
        "/", environ_overrides={"wsgi.input": Quota(), "CONTENT_LENGTH": "100"}
    )
    assert (answer.status_code, answer.text) == (429, "quota")


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, TimeoutError, EOFError])
def test_a_lost_client_is_400(error: type[Exception]) -> None:
    class Lost:
        def read(self, _size: int) -> bytes:
            raise error("lost")

    body = CachedBody({"wsgi.input": Lost(), "CONTENT_LENGTH": "5"}, rules())
    with pytest.raises(ClientDisconnected):
        body.getvalue()
    body.close()


class ServersInput(io.BytesIO):
    """With attributes of its own, as those that web sockets are taken from."""

    def __init__(self, data: bytes = b"") -> None:
        super().__init__(data)
        self.raw = self.rfile = self._sock = "the socket"


def test_attributes_of_the_servers_input_stay_reachable() -> None:
    environ: dict[str, Any] = {"wsgi.input": ServersInput(b"x"), "CONTENT_LENGTH": "1"}
    body = CachedBody(environ, rules())
    stream = environ["wsgi.input"]
    assert (stream.raw, stream.rfile, stream._sock) == ("the socket",) * 3
    with pytest.raises(AttributeError):
        _ = stream.nothing
    stream.read = lambda *_: b"replaced"
    assert stream.read() == b"replaced"
    body.close()
    with pytest.raises(AttributeError):
        _ = stream.raw


@pytest.mark.parametrize("size", [100, LIMIT + 1])
@pytest.mark.parametrize("declared", [True, False])
def test_a_stream_says_honestly_whether_it_can_be_read_again(size: int, declared: bool) -> None:
    environ: dict[str, Any] = {"wsgi.input": Counting(b"x" * size)}
    if declared:
        environ |= {"CONTENT_LENGTH": str(size)}
    else:
        environ |= {"wsgi.input_terminated": True}
    body = CachedBody(environ, rules())
    stream = body.open()
    assert stream.seekable() is (size <= LIMIT)
    # As uploaders do that cannot seek.
    assert sum(len(piece) for piece in iter(lambda: stream.read(8192), b"")) == size
    body.close()


@pytest.mark.parametrize("reads", [True, False])
def test_a_middleware_may_try_again_with_the_same_environ(reads: bool) -> None:
    """As far as stock lets it: what a view took from the client is gone, what none took is not."""
    tries: list[bytes] = []

    def view() -> tuple[str, int]:
        if reads or tries:
            tries.append(request.get_data())
        else:
            tries.append(b"")
        return ("again", 503) if len(tries) == 1 else ("done", 200)

    app = app_of(view)
    environ = EnvironBuilder(method="POST", data=b"body").get_environ()
    environ["wsgi.input"] = io.BufferedReader(io.BytesIO(b"body"))
    for expected in ("503 SERVICE UNAVAILABLE", "400 BAD REQUEST" if reads else "200 OK"):
        iterable, status, _ = run_wsgi_app(app, environ, buffered=True)
        assert status == expected, b"".join(iterable)
    assert tries == ([b"body"] if reads else [b"", b"body"])


def test_an_uploaded_file_starts_over_for_its_next_reader() -> None:
    def view() -> dict[str, Any]:
        looped = b"".join(iter(lambda: request.files["f"].read(2), b""))
        saved = io.BytesIO()
        request.files["f"].save(saved)
        with_lines = request.files["f"].readlines()
        return {
            "looped": looped.decode(),
            "whole": request.files["f"].read().decode(),
            "again": request.files["f"].stream.read().decode(),
            "saved": saved.getvalue().decode(),
            "lines": len(with_lines),
        }

    app = app_of(view)
    app.before_request(lambda: request.files["f"].read() and None)
    answer = app.test_client().post("/", data={"f": (io.BytesIO(b"line\nline\n"), "f.txt")})
    whole = "line\nline\n"
    assert answer.json == {
        "looped": whole, "whole": whole, "again": whole, "saved": whole, "lines": 2,
    }  # fmt: skip


def closed(stream: Any) -> None:
    stream.read()
    stream.close()


def left_by_a_with(stream: Any) -> None:
    with stream:
        list(stream)


def replaced(stream: Any) -> None:
    stream.close()
    request.files["f"].stream = io.BytesIO(b"its own")


def to_the_end_by_next(stream: Any) -> None:
    while next(stream, b""):
        pass


# moto, an AWS in Flask, closes each uploaded file once it has read it.
@pytest.mark.parametrize("size", [10, 600_000])
@pytest.mark.parametrize(
    "leave",
    [
        closed,
        left_by_a_with,
        replaced,
        pytest.param(
            to_the_end_by_next,
            marks=pytest.mark.skipif(
                sys.version_info < (3, 11), reason="tempfile's spooled files know no next()"
            ),
        ),
    ],
)
def test_an_uploaded_file_is_left_as_the_application_left_it(
    leave: Callable[[Any], None], size: int
) -> None:
    def view() -> list[Any]:
        leave(request.files["f"].stream)
        again = request.files["f"]
        if again.stream.closed:
            return [again.filename, "closed"]
        return [again.filename, len(again.read()), type(again.stream) is io.BytesIO]

    app = app_of(view)
    # As bytes: the client's own encoder leaves the file open that it makes for large ones.
    head = b'--bound\r\nContent-Disposition: form-data; name="f"; filename="f.txt"\r\n\r\n'
    body = head + b"x" * size + b"\r\n--bound--\r\n"
    answer = app.test_client().post(
        "/", data=body, content_type="multipart/form-data; boundary=bound"
    )
    expected: dict[Any, list[Any]] = {
        replaced: ["f.txt", len(b"its own"), True],
        to_the_end_by_next: ["f.txt", size, False],
    }
    assert answer.json == expected.get(leave, ["f.txt", "closed"])


# pandas asks what a file is, a task queue takes a copy of it.
def test_an_uploaded_file_is_of_its_own_class_and_can_be_copied() -> None:
    def view() -> list[Any]:
        stream = request.files["f"].stream
        found: list[Any] = [repr(stream).split(" ")[0]]
        found += [isinstance(stream, each) for each in (io.IOBase, io.BytesIO, type(spooled))]
        pickled = pickle.loads(pickle.dumps(stream))  # noqa: S301 - the file is ours
        # The shallow copy shares the file, and closes it: last.
        for each in (pickled, copy.deepcopy(stream), copy.copy(stream)):
            each.seek(0)
            found += [type(each).__name__, each.read().decode()]
            each.close()
        return found

    with tempfile.SpooledTemporaryFile() as spooled:
        stock: Any
        traced: Any
        stock, traced = (
            app_of(view, enabled=enabled)
            .test_client()
            .post("/", data={"f": (io.BytesIO(b"line"), "f.txt")})
            .json
            for enabled in (False, True)
        )
    assert stock[0] == "<tempfile.SpooledTemporaryFile"
    assert stock[4:] == ["SpooledTemporaryFile", "line"] * 3
    assert traced == stock


def test_an_uploaded_file_of_the_applications_own_sees_its_with_statement() -> None:
    def view() -> str:
        stream: Any = request.files["f"].stream
        with stream as entered:
            entered.read()
        return ",".join(stream.seen)

    class Own(io.BytesIO):
        seen: list[str]

        def __enter__(self) -> Own:  # noqa: PYI034 - Self is Python 3.11
            self.seen = ["begun"]
            return self

        def __exit__(self, *_: object) -> None:
            self.seen.append("ended")

    app = app_of(view)
    app.request_class = type(
        "OwnRequest", (app.request_class,), {"_get_file_stream": lambda *_, **__: Own()}
    )
    answer = app.test_client().post("/", data={"f": (io.BytesIO(b"line"), "f.txt")})
    assert answer.text == "begun,ended"


@pytest.mark.parametrize("files", [{}, {"f": io.BytesIO()}, MultiDict({"f": io.BytesIO()})])
def test_files_may_be_what_the_application_puts_there(files: Any) -> None:
    def view() -> str:
        for _again in range(2):
            assert request.files is files
        return request.get_data(as_text=True)

    class Loading(Request):
        def _load_form_data(self) -> None:
            self.form, self.files = ImmutableMultiDict(), files

    app = app_of(view)
    app.request_class = Loading
    assert app.test_client().post("/", data=b"body").text == "body"


class Digest:
    """An application's own place for an upload, which keeps no byte and cannot go back."""

    def __init__(self) -> None:
        self.size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def seek(self, _position: int) -> None:
        """For the form parser."""

    def read(self, _size: int = -1) -> bytes:
        return b""


def test_an_uploaded_file_may_be_any_object() -> None:
    def view() -> list[int]:
        request.files["f"].read()
        stream: Any = request.files["f"].stream
        return [stream.size, len(request.files["f"].read())]

    app = app_of(view)
    app.request_class = type(
        "DigestingRequest", (app.request_class,), {"_get_file_stream": lambda *_, **__: Digest()}
    )
    answer = app.test_client().post("/", data={"f": (io.BytesIO(b"line"), "f.txt")})
    assert answer.json == [4, 0]


@pytest.mark.parametrize("size", [150, 65_536])
def test_a_limit_below_what_is_read_at_once_passes_a_body_on(size: int) -> None:
    app = app_of(lambda: str(len(request.data)), body_limit=100)
    assert app.test_client().post("/", data=b"x" * size).text == str(size)


def test_a_chunked_request_gains_no_length_in_flask() -> None:
    def view() -> list[bool]:
        request.get_data()
        return [bool(request.headers["Content-Length"]), "Transfer-Encoding" in request.headers]

    overrides = {
        "wsgi.input": Counting(b"body"),
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
    }
    app = app_of(view, ids="a")
    answer = app.test_client().post("/", environ_overrides={**overrides, "CONTENT_LENGTH": ""})
    assert answer.json == [False, True]


def test_the_middleware_sets_the_length_and_takes_transfer_encoding_away() -> None:
    seen: list[tuple[Any, Any]] = []

    def application(environ: Any, start_response: Any) -> list[bytes]:
        environ["wsgi.input"].read()
        seen.append((environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING")))
        start_response("200 OK", [])
        return []

    middleware = BodyTraceMiddleware(application)
    environ = EnvironBuilder(method="POST").get_environ()
    environ |= {"wsgi.input": Counting(b"body"), "wsgi.input_terminated": True}
    environ |= {"HTTP_TRANSFER_ENCODING": "chunked", "CONTENT_LENGTH": ""}
    run_wsgi_app(middleware, environ, buffered=True)
    assert seen == [("4", None)]


def test_a_hook_that_reads_the_environ_to_its_length_leaves_the_stream_whole() -> None:
    def view() -> dict[str, Any]:
        looped = b"".join(iter(lambda: request.stream.read(3), b""))
        return {"stream": looped.decode(), "json": request.get_json()}

    app = app_of(view)

    @app.before_request
    def check_signature() -> None:
        length = int(request.environ["CONTENT_LENGTH"])
        assert len(request.environ["wsgi.input"].read(length)) == length

    answer = app.test_client().post("/", json={"a": 1})
    assert answer.json == {"stream": '{"a": 1}', "json": {"a": 1}}
