"""Every promise about the body over real sockets, on every server (cases B1-B17, B23, B24)."""

from __future__ import annotations

import hashlib
import json
import random
import re
import select
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.body.servers import (
    BODY_LIMIT,
    EARLY,
    MEMORY_LIMIT,
    Answer,
    Connection,
    Server,
    chunked,
    request,
)

SIZES = [1, 1000, 65_535, 65_537, MEMORY_LIMIT, MEMORY_LIMIT + 1, BODY_LIMIT]
_BYTES = random.Random(20).randbytes(BODY_LIMIT + 70_000)  # noqa: S311 - the same every time


def body_of(size: int) -> bytes:
    """Bytes that differ from place to place, with lines in them."""
    return _BYTES[:size]


def seen(data: bytes) -> str:
    return f"{len(data)} {hashlib.sha256(data).hexdigest()}"


def told(answer: Answer) -> Any:
    assert answer.status == 200, answer
    return json.loads(answer.body)


def state(server: Server, call: str = "") -> Any:
    return told(server.ask(f"/state?call={call}", None, method="GET"))


def nameless(server: Server) -> list[str]:
    """The server's open temporary files that never had a name."""
    return [file for file in state(server)["files"] if re.search(r"/#\d+ \(deleted\)$", file)]


def left_behind(server: Server) -> list[str]:
    """What is still there of `nameless` when the server had time to end what it is doing."""
    deadline = time.monotonic() + 10
    while (files := nameless(server)) and time.monotonic() < deadline:
        pass
    return files


def slow_lines(server: Server, size: int, chunk: int) -> bool:
    """Whether reading lines takes seconds: Werkzeug's server reads chunks byte by byte then."""
    return bool(server.name == "werkzeug" and chunk and size > 100_000)


def send_quietly(connection: Connection, data: bytes) -> None:
    """Send what may be refused half-way."""
    with suppress(BrokenPipeError, ConnectionResetError):
        connection.send(data)


@pytest.mark.parametrize("size", SIZES)
# B01, B05, B08
def test_fixed_length_every_way_of_reading(server: Server, size: int) -> None:
    body = body_of(size)
    ways = "loop,get_data,stream,lines,input,nocache,get_data"
    for first in ("", "input,", "lines,", "nocache,"):
        answer = told(server.ask(f"/read?ways={first}{ways}", body))
        assert set(answer["seen"]) == {seen(body)}
        assert answer["length"] == str(size)


@pytest.mark.parametrize("size", [0, *SIZES])
# B03, B08
def test_chunks_every_way_of_reading(server: Server, size: int) -> None:
    body = body_of(size)
    for ways in ("loop,get_data,stream", "get_data,lines", "lines,get_data", "input,loop"):
        if ways.startswith("lines") and slow_lines(server, size, 1):
            continue
        with server.connect() as connection:
            connection.send(request(f"/read?ways={ways}", body, chunk=max(1, size // 5)))
            answer = told(connection.answer())
        assert set(answer["seen"]) == {seen(body)}
        # None of ours beside Transfer-Encoding: a view may send its headers on.
        assert answer["length"] in {None, str(size)}


# B02
def test_no_length_is_no_body_and_no_hang(server: Server) -> None:
    for ways in ("get_data", "loop", "lines"):
        answer = told(server.ask(f"/read?ways={ways},get_data", None))
        assert set(answer["seen"]) == {seen(b"")}


# B01, B21
def test_form_then_files_then_raw(server: Server) -> None:
    uploaded = body_of(300_000)
    body = (
        b'--xx\r\nContent-Disposition: form-data; name="orderId"\r\n\r\nORD1\r\n'
        b'--xx\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
        + uploaded
        + b"\r\n--xx--\r\n"
    )
    headers = "Content-Type: multipart/form-data; boundary=xx\r\n"
    for chunk in (0, 20_000):
        with server.connect() as connection:
            connection.send(request("/upload", body, headers=headers, chunk=chunk))
            answer = told(connection.answer())
        assert answer == {
            "fields": {"orderId": "ORD1"},
            "file": seen(uploaded),
            "raw": seen(body),
        }


@pytest.mark.parametrize("size", [50, 200_000, 1_000_000])
# B06
def test_short_body_is_refused_or_never_handled(server: Server, size: int) -> None:
    call = uuid.uuid4().hex
    with server.connect() as connection:
        head = f"POST /read?call={call} HTTP/1.1\r\nHost: x\r\nContent-Length: {2 * size}\r\n\r\n"
        connection.send(head.encode() + body_of(size))
        connection.end()
        answer = connection.answer()
    if server.name in EARLY:
        assert (answer.status, state(server, call)["calls"]) == (0, 0)
    else:
        assert answer.status == 400


@pytest.mark.parametrize("ways", ["get_data", "loop"])
# B16, B17
def test_reset_half_way_leaves_nothing_behind(server: Server, ways: str) -> None:
    for size in (100, 100_000, 1_000_000):
        for chunk in (0, 10_000):
            with server.connect() as connection:
                message = request(f"/read?ways={ways}", body_of(2 * size), chunk=chunk)
                connection.send(message[:size])
                connection.reset()
    # Servers notice in their own time, and may begin with one that was reset only now: what is
    # left behind stays.
    for _ in range(3):
        assert left_behind(server) == []
        assert told(server.ask("/read", b"after"))["seen"] == [seen(b"after")]


def _continues(server: Server, path: str) -> int:
    """The first status a client gets that waits for 100 before it sends its body."""
    with server.connect() as connection:
        connection.send(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n"
            "Expect: 100-continue\r\n\r\n".encode()
        )
        # uWSGI never says 100: clients send all the same after a while.
        said, _, _ = select.select([connection.socket], [], [], 1)
        status = connection.head()[0] if said else 100
        if status == 100:
            connection.send(b"hello")
            assert connection.answer().status == 200
        return status


# B11
def test_continue_is_sent_when_stock_flask_sends_it(server: Server) -> None:
    for path in ("/unread", "/read"):
        assert _continues(server, path) == _continues(server, f"/stock{path}")


@pytest.mark.parametrize("chunk", [0, 30_000])
# B07, B09
def test_over_the_limit_rejected(server: Server, chunk: int) -> None:
    for ways in ("get_data", "loop", "lines"):
        for size, status in ((BODY_LIMIT, 200), (BODY_LIMIT + 1, 413)):
            if ways == "lines" and slow_lines(server, size, chunk):
                continue
            with server.connect() as connection:
                send_quietly(
                    connection,
                    request(f"/reject/read?ways={ways}", body_of(size), chunk=chunk),
                )
                assert connection.answer().status == status, (ways, size)
    assert told(server.ask("/read", b"after"))["seen"] == [seen(b"after")]


# B09
def test_rejected_by_length_before_anything_is_sent(server: Server) -> None:
    if server.name in EARLY:
        pytest.skip(f"{server.name} reads the body before it calls the application")
    with server.connect() as connection:
        connection.send(
            f"POST /reject/read HTTP/1.1\r\nHost: x\r\nContent-Length: {BODY_LIMIT + 1}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        if server.name == "cheroot":
            # Its own rule: what is declared is read before an answer goes out.
            connection.end()
        assert connection.answer().status == 413


@pytest.mark.parametrize("chunk", [0, 30_000])
# B07
def test_over_the_limit_passed_on_once(server: Server, chunk: int) -> None:
    body = body_of(BODY_LIMIT + 60_000)
    for ways in ("get_data", "loop", "lines", "stream", "input"):
        if ways == "lines" and slow_lines(server, len(body), chunk):
            continue
        with server.connect() as connection:
            message = request(f"/read?ways={ways},stream", body, chunk=chunk)
            connection.send(message)
            answer = told(connection.answer())
        assert answer["seen"] == [seen(body), "BodyNotReplayable"]


@pytest.mark.parametrize("path", ["/unread", "/first/3", "/reject/read"])
@pytest.mark.parametrize("chunk", [0, 40])
@pytest.mark.parametrize("size", [100, 70_000, BODY_LIMIT + 1])
# B10
def test_unread_body_does_not_become_the_next_request(
    server: Server, path: str, chunk: int, size: int
) -> None:
    smuggled = uuid.uuid4().hex
    inner = request(f"/read?call={smuggled}", b"inner")
    body = (inner * (size // len(inner) + 1))[:size]
    chunk = chunk and len(inner)
    with server.connect() as connection:
        send_quietly(connection, request(path, body, chunk=chunk))
        first = connection.answer()
        assert first.status in {200, 413}
        if first.headers.get("connection", "").lower() != "close":
            try:
                connection.send(request("/read?call=next", b"next"))
                second = connection.answer()
            except ConnectionError:
                second = Answer(0)
            # Answered as it should be, or the connection is closed: never anything else.
            if second.status:
                assert told(second)["seen"] == [seen(b"next")]
            assert state(server, smuggled)["calls"] == 0


# B24
def test_streamed_response_reads_the_body_late(server: Server) -> None:
    for size, chunk in ((1000, 0), (300_000, 0), (300_000, 5000)):
        body = body_of(size)
        with server.connect() as connection:
            connection.send(request("/streamed", body, chunk=chunk))
            answer = connection.answer()
        assert answer.text == f"reads: {hashlib.sha256(body).hexdigest()}"


@pytest.mark.parametrize("size", [100, 100_000])
# B12, B15
def test_thread_reading_after_the_end_gets_nobodys_bytes(server: Server, size: int) -> None:
    key = uuid.uuid4().hex
    assert server.ask(f"/late/{key}", body_of(size)).text == "later"
    # Other clients' bytes come by before the thread reads and while it does.
    strangers = _strangers(server)
    strangers(8)
    answer = server.ask(f"/late/{key}", None, method="GET")
    strangers(8)
    assert answer.text == "ValueError"


# B15
def test_thread_waiting_at_the_end_takes_nobodys_bytes(server: Server) -> None:
    if server.name in EARLY or server.name == "gunicorn-gevent":
        pytest.skip("nobody can be waiting: the body is there, or no thread runs meanwhile")
    key = uuid.uuid4().hex
    others = _strangers(server)
    with server.connect() as connection:
        connection.send(
            f"POST /late/{key}?now=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n"
            "\r\nbegun".encode()
        )
        threads = [threading.Thread(target=others, args=(4,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        connection.end()
        connection.answer()
    for thread in threads:
        thread.join()
    others(4)
    answer = server.ask(f"/late/{key}", None, method="GET")
    assert answer.text in {"ValueError", "ClientDisconnected"}


def _strangers(server: Server) -> Callable[[int], None]:
    def run(count: int) -> None:
        for number in range(count):
            body = f"{number} ".encode() * 2000 + uuid.uuid4().bytes
            assert told(server.ask("/read", body))["seen"] == [seen(body)]

    return run


@pytest.mark.parametrize("kind", ["chunks", "length"])
def test_partial_reads_do_not_wait_for_more_than_they_ask_for(server: Server, kind: str) -> None:
    if server.name in EARLY:
        pytest.skip(f"{server.name} reads the body before it calls the application")
    # gunicorn itself waits for a KiB whatever it is asked for.
    begun = b"abc" + bytes(1021)
    with server.connect() as connection:
        if kind == "chunks":
            head = "POST /first/3 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            connection.send(head.encode() + chunked(begun, 1024, end=False))
        else:
            head = "POST /first/3 HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n"
            connection.send(head.encode() + begun)
        if server.name == "cheroot" and kind == "length":
            connection.end()
        assert connection.answer().body == b"abc"


@pytest.mark.parametrize(
    ("length", "statuses"),
    [("-5", {400, 500}), ("abc", {400}), ("5, 6", {400}), ("9" * 30, {400, 413, 0})],
)
def test_bad_lengths_are_refused(server: Server, length: str, statuses: set[int]) -> None:
    with server.connect() as connection:
        connection.send(
            f"POST /reject/read HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
            "Connection: close\r\n\r\nhello".encode()
        )
        connection.end()
        assert connection.answer().status in statuses
    assert told(server.ask("/read", b"after"))["seen"] == [seen(b"after")]


BROKEN = {
    "no size": b"zz\r\nhello\r\n0\r\n\r\n",
    "cut off": b"5\r\nhello\r\n5\r\nhe",
    "negative": b"-5\r\nhello\r\n0\r\n\r\n",
    "endless size": b"f" * 70_000,
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_chunks_are_no_whole_body(server: Server, kind: str) -> None:
    with server.connect() as connection:
        send_quietly(
            connection,
            b"POST /read HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + BROKEN[kind],
        )
        try:
            connection.end()
            answer = connection.answer()
        except OSError:
            answer = Answer(0)
    if server.name in {"granian", "uwsgi", "cheroot"} and answer.status == 200:
        # They end the stream there without a word, to stock Flask as well.
        pieces = {seen(b""), seen(b"hello"), seen(b"hellohe")}
        assert set(told(answer)["seen"]) <= pieces
    else:
        assert answer.status in {0, 400, 413}
    assert told(server.ask("/read", b"after"))["seen"] == [seen(b"after")]


def test_flood_of_one_byte_chunks(server: Server) -> None:
    body = body_of(20_000)
    with server.connect() as connection:
        connection.send(request("/read?ways=get_data,loop", body, chunk=1))
        assert set(told(connection.answer())["seen"]) == {seen(body)}


def test_endless_chunks_end_at_the_limit(server: Server) -> None:
    piece = chunked(bytes(60_000), 60_000, end=False)
    with server.connect() as connection:
        connection.send(
            b"POST /reject/read?ways=loop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        sent = 0
        limit = 20 * BODY_LIMIT
        try:
            while sent < limit:
                connection.socket.setblocking(False)
                try:
                    if connection.socket.recv(1, 2):  # MSG_PEEK: an answer is there
                        break
                except BlockingIOError:
                    pass
                connection.socket.settimeout(5)
                connection.send(piece)
                sent += len(piece)
        except OSError:
            pass
        connection.socket.settimeout(5)
        if server.name in EARLY:
            # These wait for the end, up to limits of their own (waitress: 1 GiB).
            send_quietly(connection, b"0\r\n\r\n")
        else:
            assert sent < limit
        try:
            status = connection.answer().status
        except ConnectionError:
            status = 0
        assert status in {0, 413}
    assert told(server.ask("/read", b"after"))["seen"] == [seen(b"after")]


def test_ten_thousand_fields(server: Server) -> None:
    part = '--xx\r\nContent-Disposition: form-data; name="f{}"\r\n\r\n1\r\n'
    body = "".join(part.format(number) for number in range(10_000)).encode() + b"--xx--\r\n"
    headers = "Content-Type: multipart/form-data; boundary=xx\r\n"
    assert server.ask("/form", body, headers=headers).status == 413
    assert server.ask("/stock/form", body, headers=headers).status == 413


# B20
def test_gzip_bomb_is_passed_on_as_it_is(server: Server) -> None:
    import gzip

    bomb = gzip.compress(bytes(20_000_000))
    headers = "Content-Encoding: gzip\r\nContent-Type: application/json\r\n"
    before = state(server)["resident"]
    answer = told(server.ask("/read?ways=get_data,stream", bomb, headers=headers))
    assert set(answer["seen"]) == {seen(bomb)}
    assert state(server)["resident"] - before < 15_000_000
