"""What the body does in one process: limits, spilling, borrowing, forks, lateness, figures."""

from __future__ import annotations

import gc
import io
import os
import stat
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from typing import IO, Any, cast

import pytest
from flask import Config, Flask, Request, g, request
from flask.ctx import _AppCtxGlobals
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge

from flask_bodytrace import BodyNotReplayable, BodyStream, BodyTrace, CachedBody
from flask_bodytrace.body import store
from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.body.state import BodyRules
from flask_bodytrace.body.store import SpillFile
from flask_bodytrace.log_once import LogOnce
from tests.body.figures import open_files

MEMORY, LIMIT = 300_000, 600_000


def _body(
    source: Any,
    *,
    length: int | None = None,
    reject: bool = False,
    on_event: Callable[[str], None] = lambda _event: None,
    spill_quota: store.SpillQuota | None = None,
    **environ: Any,
) -> tuple[CachedBody, BodyRules]:
    environ = {"wsgi.input": source, **environ}
    if length is None:
        environ["wsgi.input_terminated"] = True
    else:
        environ["CONTENT_LENGTH"] = str(length)
    pool = BufferPool(largest=MEMORY, limit=1 << 20)
    rules = BodyRules(pool, MEMORY, LIMIT, reject, on_event, spill_quota)
    return CachedBody(environ, rules), rules


class _Pipe:
    """A server's input fed by the test; notes what it was asked for."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)
        self.asked: list[int] = []
        self.waiting = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def read(self, size: int) -> bytes:
        self.asked.append(size)
        self.waiting.set()
        assert self.go_on.wait(20)
        if not self.pieces:
            return b""
        piece, self.pieces[0] = self.pieces[0][:size], self.pieces[0][size:]
        if not self.pieces[0]:
            del self.pieces[0]
        return piece


# B22
def test_nothing_is_read_before_it_is_needed() -> None:
    source = _Pipe(b"x" * 100)
    body, _ = _body(source, length=100)
    body.open().seek(50)
    assert (source.asked, body.size) == ([], 100)
    assert body.open().read(10) == b"x" * 10
    assert source.asked == [10]
    body.close()


def test_reads_are_no_larger_than_asked_for() -> None:
    source = _Pipe(b"a" * 10, b"b" * 10, b"c" * 10)
    body, _ = _body(source)
    stream = body.open()
    assert (stream.read(5), stream.read(5)) == (b"a" * 5, b"a" * 5)
    assert source.asked == [5, 5]
    assert stream.readline() == b"b" * 10 + b"c" * 10
    body.close()


def test_a_body_asked_for_in_one_piece_is_not_written_to_the_disk_first() -> None:
    events: list[str] = []
    size = MEMORY + 1
    body, _ = _body(_Pipe(b"a" * 10, b"b" * (size - 10)), length=size, on_event=events.append)
    assert body.getvalue() == b"a" * 10 + b"b" * (size - 10)
    assert body.open().read(12) == b"a" * 10 + b"bb"
    assert (events, body.size) == ([], size)
    body.close()


def test_small_body_is_not_copied_by_a_second_get_data() -> None:
    app = Flask("x")
    BodyTrace(app, metrics=False)

    @app.post("/")
    def view() -> str:
        first = request.get_data()
        assert request.get_data() is first
        assert request.get_data(cache=False) is first
        assert g.trace.body.getvalue() is first
        return ""

    assert app.test_client().post("/", data=b"x" * 100).status_code == 200


def test_complete_buffers_are_shared_not_copied() -> None:
    data = os.urandom(500_000)
    body, _ = _body(io.BytesIO(data), length=len(data))
    tracemalloc.start()
    assert body.getvalue() == data
    assert tracemalloc.get_traced_memory()[1] < 100_000
    tracemalloc.stop()
    body.close()


# B17
def test_servers_file_is_borrowed_where_it_stands_and_left_open() -> None:
    data = os.urandom(MEMORY + 1000)
    with tempfile.TemporaryFile("w+b") as file:
        assert type(file) is io.BufferedRandom
        file.write(b"before" + data + b"after")
        file.seek(6)
        before = open_files()
        body, _ = _body(file, length=len(data))
        stream = body.open()
        assert stream.read(1000) == data[:1000]
        assert open_files() == before
        assert body.getvalue() == data
        assert stream.read() == data[1000:]
        body.close()
        assert (file.closed, file.tell()) == (False, 6)


def test_spill_file_is_private_nameless_and_gone() -> None:
    before = open_files()
    file = SpillFile()
    file.append(b"secret")
    status = os.fstat(file._descriptor)
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 0)
    assert len(open_files()) == len(before) + 1
    file.close()
    file.close()
    assert open_files() == before


@pytest.mark.parametrize("closed", [True, False])
# B16, B17
def test_large_body_leaves_no_descriptor(closed: bool) -> None:
    gc.collect()  # what tests before this one left
    before = open_files()
    body, _ = _body(_Pipe(b"x" * (MEMORY + 1)), length=MEMORY + 1)
    stream = body.open()
    stream.read(10)
    assert len(open_files()) == len(before) + 1
    if closed:
        body.close()
        with pytest.raises(ValueError, match="over"):
            stream.read(10)
    # A test client's requests are never closed: the collector must do it, without a warning.
    del body, stream
    gc.collect()
    assert open_files() == before


@pytest.mark.parametrize("room", [0, MEMORY + 100])
@pytest.mark.parametrize("length", [True, False])
def test_a_full_disk_keeps_the_body_in_memory(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, room: int, length: bool
) -> None:
    write_at = store._write_at

    def full(descriptor: int, data: memoryview, offset: int) -> int:
        if offset + len(data) > room:
            raise OSError(28, "No space left on device")
        return write_at(descriptor, data, offset)

    monkeypatch.setattr(store, "_write_at", full)
    monkeypatch.setattr(store, "_report", LogOnce("unspillable"))
    data = bytes(range(256)) * ((MEMORY * 3 // 2) // 256)
    before = open_files()
    for _ in range(2):
        events: list[str] = []
        body, _ = _body(_Pipe(data), length=len(data) if length else None, on_event=events.append)
        stream = body.open()
        assert b"".join(iter(lambda: stream.read(1000), b"")) == data  # noqa: B023
        assert body.open().read() == data
        assert "unspillable" in events
        body.close()
        assert open_files() == before
    assert [
        record.getMessage() for record in caplog.records if "logged once" in record.getMessage()
    ]
    assert len(caplog.records) == 1


def test_no_temporary_folder_keeps_the_body_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def nowhere(**_: object) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "TemporaryFile", nowhere)
    data = b"x" * (MEMORY * 2)
    body, _ = _body(_Pipe(data), length=None)
    assert body.open().read(10) == data[:10]
    assert body.open().read() == data
    body.close()


def test_the_quota_for_the_disk_passes_further_bodies_on() -> None:
    quota = store.SpillQuota(MEMORY * 3)
    data = b"x" * (MEMORY * 2)
    first, _ = _body(_Pipe(data), length=len(data), spill_quota=quota)
    assert first.open().read(10) == data[:10]
    second, _ = _body(_Pipe(data), length=len(data), spill_quota=quota)
    stream = second.open()
    assert b"".join(iter(lambda: stream.read(1000), b"")) == data
    assert not second.replayable
    with pytest.raises(BodyNotReplayable):
        second.open().read()
    first.close()
    second.close()
    third, _ = _body(_Pipe(data), length=len(data), spill_quota=quota)
    assert third.open().read(10) + third.open().read() == data[:10] + data
    third.close()


@pytest.mark.parametrize("length", [True, False])
# B06
def test_short_or_broken_is_400_for_every_reader(length: bool) -> None:
    class Broken(_Pipe):
        def read(self, size: int) -> bytes:
            if not self.pieces:
                raise OSError("reset")
            return super().read(size)

    sources: list[Any] = [Broken(b"half")]
    if length:
        sources += [_Pipe(b"half"), io.BytesIO(b"half")]
    for source in sources:
        body, _ = _body(source, length=8 if length else None)
        for _ in range(2):
            with pytest.raises(ClientDisconnected):
                body.getvalue()
            with pytest.raises(ClientDisconnected):
                body.open().read(8)
        body.close()


@pytest.mark.parametrize("text", ["-5", "abc", "1e3", "+5", "5,6", "\u00b2", "1_0", "0x5"])
def test_length_that_is_no_number_is_400(text: str) -> None:
    environ = {"wsgi.input": io.BytesIO(b"hello"), "CONTENT_LENGTH": text}
    rules = BodyRules(BufferPool(largest=MEMORY, limit=0), MEMORY, LIMIT)
    body = CachedBody(environ, rules)
    with pytest.raises(BadRequest):
        body.getvalue()
    with pytest.raises(BadRequest):
        body.open().read(1)
    body.close()


def test_length_of_thousands_of_digits_is_too_large() -> None:
    environ = {"wsgi.input": _Pipe(b"hello"), "CONTENT_LENGTH": "9" * 5000}
    rules = BodyRules(BufferPool(largest=MEMORY, limit=0), MEMORY, LIMIT, reject=True)
    with pytest.raises(RequestEntityTooLarge):
        CachedBody(environ, rules).getvalue()


def test_length_given_as_a_number_is_traced() -> None:
    # PEP 3333 wants text; requests-wsgi-adapter gives an int, which a view that leaves the body
    # alone does not notice in Werkzeug either.
    app = Flask(__name__)
    BodyTrace(app, ids="order.id=orderId")

    @app.post("/")
    def view() -> str:
        return "ok"

    content = b'{"orderId": "ORD1"}'
    answer = app.test_client().post(
        "/",
        data=content,
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": len(content)},
    )
    assert (answer.status_code, answer.text) == (200, "ok")
    assert "X-Trace-ID" in answer.headers


@pytest.mark.parametrize("value", [None, False, "", 0])
# B04
def test_input_terminated_false_means_what_it_says(value: object) -> None:
    environ = {"wsgi.input": _Pipe(b"next request"), "wsgi.input_terminated": value}
    rules = BodyRules(BufferPool(largest=MEMORY, limit=0), MEMORY, LIMIT)
    assert CachedBody(environ, rules).getvalue() == b""
    assert environ["wsgi.input_terminated"] is True


# B18
def test_declared_memory_is_not_taken_before_bytes_arrive() -> None:
    tracemalloc.start()
    bodies = [_body(_Pipe(b"xx"), length=LIMIT)[0] for _ in range(50)]
    for body in bodies:
        assert body.open().read(1) == b"x"
    assert tracemalloc.get_traced_memory()[1] < 50 * 20_000
    tracemalloc.stop()
    for body in bodies:
        body.close()


def test_passed_on_body_says_what_to_do() -> None:
    body, _ = _body(_Pipe(b"x" * (LIMIT + 1)), length=LIMIT + 1)
    assert len(body.open().read()) == LIMIT + 1
    with pytest.raises(BodyNotReplayable, match="BODYTRACE_BODY_LIMIT"):
        body.open().read()
    body.close()


def test_applications_own_limit_counts_for_chunks_too() -> None:
    app = Flask("x")
    app.config["MAX_CONTENT_LENGTH"] = 1000
    BodyTrace(app, metrics=False)

    @app.post("/")
    def view() -> str:
        return str(len(request.get_data()))

    client = app.test_client()
    for size, status in ((1000, 200), (1001, 413)):
        environ = {"wsgi.input": _Pipe(b"x" * size), "wsgi.input_terminated": True}
        environ["HTTP_TRANSFER_ENCODING"] = "chunked"
        assert client.post("/", environ_overrides=environ).status_code == status
        assert client.post("/", data=b"x" * size).status_code == status


# B15
def test_close_waits_for_a_reader_and_the_reader_gets_nothing() -> None:
    source = _Pipe(b"x" * 50, b"y" * 50)
    source.go_on.clear()
    body, _ = _body(source, length=100)
    outcome: list[object] = []

    def read() -> None:
        try:
            outcome.append(body.getvalue())
        except ValueError as error:
            outcome.append(str(error))

    reader = threading.Thread(target=read)
    reader.start()
    assert source.waiting.wait(20)
    closing = threading.Thread(target=body.close)
    closing.start()
    closing.join(0.1)
    # Were it over now, a server could give the reader's socket to the next client.
    assert closing.is_alive()
    source.go_on.set()
    closing.join(20)
    reader.join(20)
    assert outcome == ["I/O operation on the body of a request that is over"]
    assert len(source.asked) == 1


def test_threads_read_one_body_together() -> None:
    data = os.urandom(MEMORY - 1)
    body, _ = _body(_Pipe(*(data[start : start + 999] for start in range(0, len(data), 999))))
    found: list[bytes] = []

    def read(step: int) -> None:
        stream = body.open()
        parts = []
        while part := stream.read(step):
            parts.append(part)
        found.append(b"".join(parts))

    threads = [threading.Thread(target=read, args=(step,)) for step in (777, 5000, 100_000)]
    threads.append(threading.Thread(target=lambda: found.append(body.getvalue())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [data] * 4
    body.close()


def test_forked_child_reads_the_same_body() -> None:
    data = os.urandom(MEMORY + 5000)
    body, _ = _body(_Pipe(data), length=len(data))
    stream = body.open()
    parts = []
    while part := stream.read(50_000):
        parts.append(part)
    child = os.fork()
    if child == 0:
        os._exit(0 if all(body.open().read(len(data)) == data for _ in range(20)) else 1)
    mine = all(body.open().read(len(data)) == data for _ in range(20))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert mine
    assert b"".join(parts) == data
    body.close()


def test_stream_is_a_file_to_other_libraries() -> None:
    body, _ = _body(_Pipe("zwölf\nBoxkämpfer\n".encode() * 3000))
    text = io.TextIOWrapper(cast("IO[bytes]", body.open()), encoding="utf-8")
    assert text.readlines() == ["zwölf\n", "Boxkämpfer\n"] * 3000
    stream = body.open()
    assert isinstance(stream, BodyStream)
    assert io.BufferedReader(cast("Any", stream)).read(5) == "zwölf".encode()[:5]
    with pytest.raises(io.UnsupportedOperation):
        body.open().fileno()
    body.close()


def test_figures_are_metrics() -> None:
    reader = InMemoryMetricReader()
    app = Flask("figures")
    provider = MeterProvider([reader])
    BodyTrace(app, meter_provider=provider, memory_limit=MEMORY, body_limit=LIMIT)
    other = Flask("rejecting")
    BodyTrace(other, meter_provider=provider, body_limit=LIMIT, over_limit="reject")
    for each in (app, other):
        each.add_url_rule("/", "read", lambda: request.stream.read(70_000), methods=["POST"])

    def post(to: Flask, size: int, reads: int = 0) -> None:
        source = _Pipe(b"x" * size)
        environ = {"wsgi.input": source, "CONTENT_LENGTH": str(size)}
        response = to.test_client().post("/", environ_overrides=environ)
        response.close()
        assert reads in {0, response.status_code}

    for _ in range(3):
        post(app, 100_000)
    app.view_functions["read"] = lambda: b"".join(iter(lambda: request.stream.read(70_000), b""))
    for _ in range(3):
        post(app, 200_000)
    post(app, MEMORY + 1)
    post(app, LIMIT + 1)
    post(other, LIMIT + 1, reads=413)
    figures: dict[Any, float] = {}
    data: Any = reader.get_metrics_data()
    for resource in data.resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                if metric.name.startswith("bodytrace."):
                    for point in metric.data.data_points:
                        key = metric.name, point.attributes.get("event")
                        figures[key] = figures.get(key, 0) + point.value
    assert figures["bodytrace.body.events", "spilled"] == 1
    assert figures["bodytrace.body.events", "passed"] == 1
    assert figures["bodytrace.body.events", "rejected"] == 1
    assert figures["bodytrace.pool.misses", None] == 1
    assert figures["bodytrace.pool.hits", None] == 2
    assert figures["bodytrace.pool.kept", None] == 1 << 18
    provider.shutdown()


def test_what_an_application_sets_after_init_app_counts() -> None:
    app = Flask(__name__)
    BodyTrace(app)

    class Own(Request):
        @property
        def mine(self) -> bool:
            return True

    class Globals(_AppCtxGlobals):
        own = True

    app.config = Config(app.root_path, app.config)
    app.config["MAX_CONTENT_LENGTH"] = 4
    app.app_ctx_globals_class = Globals
    app.request_class = Own

    @app.post("/")
    def twice() -> dict[str, object]:
        assert isinstance(request, Own)
        trace = g.trace.trace_id
        read = [request.get_data(as_text=True), request.stream.read().decode()]
        return {"own": g.own, "read": read, "trace": trace}

    answer = app.test_client().post("/", data=b"body")
    assert answer.json is not None
    assert answer.json["read"] == ["body", "body"]
    assert answer.json["own"] is True
    assert answer.headers["X-Trace-ID"] == answer.json["trace"]
    assert app.test_client().post("/", data=b"bodies").status_code == 413
    app.config["MAX_CONTENT_LENGTH"] = None
    assert app.test_client().post("/", data=b"bodies").status_code == 200
    del app.request_class
    assert issubclass(app.request_class, Request)


def test_a_limit_of_the_request_or_its_class_counts() -> None:
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = 8
    BodyTrace(app)

    class Strict(Request):
        max_content_length = 2

    @app.post("/<int:limit>")
    def read(limit: int) -> str:
        if limit:
            request.max_content_length = limit
        return request.get_data(as_text=True)

    client = app.test_client()
    assert [client.post("/0", data=b"x" * size).status_code for size in (8, 9)] == [200, 413]
    if getattr(Request.max_content_length, "fset", None) is not None:  # Flask 3.1
        assert [client.post("/3", data=b"x" * size).status_code for size in (3, 4)] == [200, 413]
        assert client.post("/20", data=b"x" * 9).status_code == 200
    app.config["MAX_CONTENT_LENGTH"] = None
    derived = type("Derived", (app.request_class,), {"max_content_length": 2})
    for request_class in (Strict, derived):
        app.request_class = request_class
        assert [client.post("/0", data=b"x" * size).status_code for size in (2, 3)] == [200, 413]
