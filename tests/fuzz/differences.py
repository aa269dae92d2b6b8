"""Sending a raw request to stock Flask and to this package, and why their answers may differ."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.body.servers import Answer, Connection, Server, serving
from tests.fuzz.raw import RawRequest, raw_request

SERVERS = ("gunicorn-gthread", "werkzeug", "waitress", "cheroot", "uwsgi")
MOUNTS = ("", "/ids", "/reject")
"""Where the package's applications are; stock Flask is at ``/stock``."""
_HANGS = 3.0
"""Seconds without a byte after which a server is taken to wait for more than the client sends."""


@dataclass(frozen=True)
class Outcome:
    """What a client got.

    :param status: 0 for a connection that was closed without an answer, -1 for none in time.
    """

    status: int
    body: str


@dataclass(frozen=True)
class Compared:
    """One request to both; `reason` says why the answers differ, None if nothing explains it."""

    raw: RawRequest
    mount: str
    stock: Outcome
    ours: Outcome
    reason: str | None

    def __str__(self) -> str:
        return f"{self.mount} {self.raw}\n    stock {self.stock}\n    ours  {self.ours}"


def compare(name: str, seeds: Iterable[int], folder: Path) -> Iterator[Compared]:
    """Send the requests of these seeds to a server of this name, one after the other."""
    left = iter(seeds)
    while True:
        with serving(name, folder) as server:
            for seed in left:
                raw = raw_request(seed)
                mount = MOUNTS[seed % len(MOUNTS)]
                stock, ours = outcome(server, raw, "/stock"), outcome(server, raw, mount)
                yield Compared(raw, mount, stock, ours, explanation(name, raw, stock, ours))
                if -1 in {stock.status, ours.status}:
                    # Stock's threads do not only wait: Werkzeug's loops over some broken chunks,
                    # and takes all the memory there is. So another server goes on.
                    break
            else:
                return


def outcome(server: Server, raw: RawRequest, mount: str) -> Outcome:
    """Send `raw` on a connection of its own."""
    with Connection(socket.create_connection(("127.0.0.1", server.port), _HANGS)) as connection:
        with suppress(OSError):  # refused half-way
            connection.send(raw.on(mount))
            if raw.ends:
                connection.end()
        try:
            answer = _head_or_answer(connection, raw)
        except TimeoutError:
            return Outcome(-1, "")
        except (ConnectionError, ValueError, AssertionError) as error:
            return Outcome(0, type(error).__name__)
    text = answer.body.decode("latin-1") if answer.status == 200 else ""
    return Outcome(answer.status, text)


def _head_or_answer(connection: Connection, raw: RawRequest) -> Answer:
    if raw.method != "HEAD":
        return connection.answer()
    status, headers = connection.head()
    return Answer(status, headers)


def explanation(server: str, raw: RawRequest, stock: Outcome, ours: Outcome) -> str | None:
    """Why `ours` differs from `stock`; None if no rule says so."""
    return next((why for why, holds in _RULES if holds(server, raw, stock, ours)), None)


def _is_chunked(raw: RawRequest) -> bool:
    return any(header.startswith("Transfer-Encoding") for header in raw.headers)


def _is_whole(raw: RawRequest, ours: Outcome) -> bool:
    seen = {f'"seen":["{len(raw.body)} ', f'"raw":{len(raw.body)}}}', '"orderId":"ORD'}
    if raw.path.startswith("/first"):
        return ours.body == raw.body[:10].decode("latin-1")
    return ours.status == 200 and any(each in ours.body for each in seen)


Rule = Callable[[str, RawRequest, Outcome, Outcome], bool]
_RULES: list[tuple[str, Rule]] = [
    ("the same", lambda _server, _raw, stock, ours: ours == stock),
    (
        "less than was announced: 400, never a part passed off as the whole (B06)",
        lambda _server, raw, stock, ours: (
            (stock.status, ours.status) in {(200, 400), (500, 400)}
            and raw.framing in {"short", "cut chunks", "broken chunks", "two lengths"}
        ),
    ),
    (
        "the server does not understand these chunks, extensions or trailers: 400, not its 500",
        lambda _server, raw, stock, ours: (
            (stock.status, ours.status) == (500, 400) and _is_chunked(raw)
        ),
    ),
    (
        "the server's readline fails for chunks: the whole body",
        lambda server, raw, stock, ours: (
            server == "cheroot"
            and stock.status == 500
            and "lines" in raw.path
            and _is_whole(raw, ours)
        ),
    ),
    (
        "cheroot ends a broken chunked body as if it were whole (docs/body.md), with no 500",
        lambda server, raw, stock, ours: (
            server == "cheroot"
            and stock.status == 500
            and "lines" in raw.path
            and raw.framing in {"broken chunks", "cut chunks"}
            and _is_empty(ours)
        ),
    ),
    (
        "a Content-Length that is no number: 400, not an empty body",
        lambda _server, raw, stock, ours: (
            raw.framing == "odd length" and stock.status in {200, 500} and ours.status == 400
        ),
    ),
    (
        "a Content-Length beyond any limit: 413 where settings say so, whatever is sent",
        lambda _server, raw, _stock, ours: raw.framing == "odd length" and ours.status == 413,
    ),
    (
        "the same Content-Length twice counts once (RFC 9110, 8.6)",
        lambda _server, raw, _stock, ours: (
            raw.framing in {"odd length", "two lengths"} and _is_whole(raw, ours)
        ),
    ),
    (
        "uWSGI leaves chunks to be asked for, which stock does not (B03)",
        lambda server, raw, _stock, ours: (
            server == "uwsgi" and _is_chunked(raw) and _is_whole(raw, ours)
        ),
    ),
    (
        "uWSGI cannot take these chunks, or this length, apart: 400, not an empty body",
        lambda server, raw, stock, ours: (
            server == "uwsgi"
            and (_is_chunked(raw) or raw.framing == "spaced length")
            and ours.status == 400
            and (stock.status == 400 or _is_empty(stock))
        ),
    ),
    (
        "no length, and an input that nobody ends: no body (B04)",
        lambda _server, raw, _stock, ours: (
            raw.framing in {"other coding", "no length"} and _is_empty(ours)
        ),
    ),
    (
        "uWSGI ends a broken chunked body as if it were whole (docs/body.md)",
        lambda server, raw, stock, ours: (
            server == "uwsgi"
            and raw.framing in {"broken chunks", "cut chunks"}
            and _is_empty(stock)
            and ours.status in {200, 400}
        ),
    ),
    (
        "uWSGI: a length beside chunks counts, as nginx sends them, taken apart (uwsgi_pass)",
        lambda server, raw, stock, _ours: (
            server == "uwsgi"
            and raw.framing == "both"
            and (_is_empty(stock) or stock.status == 400)
        ),
    ),
    (
        "the raw body is there after the form was read (B01)",
        lambda _server, raw, stock, ours: (
            raw.path == "/form"
            and ours.body == stock.body.replace('"raw":0', f'"raw":{len(raw.body)}')
        ),
    ),
    ("stock waits for ever", lambda _server, _raw, stock, ours: stock.status == -1 < ours.status),
]
"""What is right, and where it may differ from stock: the first that holds."""


def _is_empty(outcome: Outcome) -> bool:
    return outcome.status == 200 and (
        '"seen":["0 ' in outcome.body or '"raw":0}' in outcome.body or not outcome.body
    )
