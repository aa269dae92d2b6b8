"""What keeping bodies costs: ``make bench-body`` prints it and writes RESULTS-body.md.

*stock Flask* and *ours* make a `flask.Request` each, about 5 us of their time; the others are bare
mechanisms: the article's pooled buffer, the same without a pool, and the standard library's.

Two parts. Behind real servers, each request names the way its body is to be read, so that ways
are interleaved in one process, and ratios are of minima. In a process of its own for each way,
one body and eight at once are read from memory: time, page faults and peak resident set, which
behind a server would be the server's.
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import platform
import random
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flask import Flask, Request

from flask_bodytrace.body.cached import BodyRules, CachedBody
from flask_bodytrace.body.pool import BufferPool
from flask_bodytrace.flask.request import replayable

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

KIB, MIB = 1024, 1024 * 1024
SIZES = [256, KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 10 * MIB]
SERVERS = ["gunicorn gthread", "werkzeug"]
RESULTS = Path(__file__).with_name("RESULTS-body.md")
_STEP = 64 * KIB

_pool = BufferPool(largest=16 * MIB, limit=128 * MIB)
_rules = BodyRules(BufferPool(largest=MIB, limit=8 * MIB), MIB, 16 * MIB)
_unpooled = BodyRules(BufferPool(largest=MIB, limit=0), MIB, 16 * MIB)
_app = Flask("body")
_Ours = replayable(Request, _rules, _app.config)

Second = Callable[[], bytes]
Close = Callable[[], object]
Way = Callable[["WSGIEnvironment"], tuple[Second, Close]]


def _nothing() -> None:
    pass


def _stock(environ: WSGIEnvironment) -> tuple[Second, Close]:
    request = Request(environ)
    request.get_data()
    return request.get_data, lambda: environ.pop("werkzeug.request")


def _ours(environ: WSGIEnvironment) -> tuple[Second, Close]:
    body = CachedBody(environ, _rules)
    request = _Ours(environ)
    request.get_data()

    def close() -> None:
        body.close()
        # As Flask does at the end of a request, so that it is no cycle.
        environ.pop("werkzeug.request")

    return request.get_data, close


def _buffered(pool: BufferPool) -> Way:
    """The article's way: into a pooled buffer, and out of it whenever somebody asks."""

    def way(environ: WSGIEnvironment) -> tuple[Second, Close]:
        size = int(environ["CONTENT_LENGTH"])
        source = environ["wsgi.input"]
        lease = pool.acquire(max(size, 2))
        filled = 0
        while filled < size:
            piece = source.read(min(_STEP, size - filled))
            lease.view[filled : filled + len(piece)] = piece
            filled += len(piece)

        def read() -> bytes:
            return bytes(lease.view[:size])

        read()
        return read, lambda: lease.release(size)

    return way


def _spooled(environ: WSGIEnvironment) -> tuple[Second, Close]:
    size = int(environ["CONTENT_LENGTH"])
    source = environ["wsgi.input"]
    file = tempfile.SpooledTemporaryFile(max_size=MIB)  # noqa: SIM115 - closed by the caller
    while size:
        piece = source.read(min(_STEP, size))
        file.write(piece)
        size -= len(piece)

    def read() -> bytes:
        file.seek(0)
        return file.read()

    read()
    return read, file.close


def _pieces(rules: BodyRules) -> Way:
    def way(environ: WSGIEnvironment) -> tuple[Second, Close]:
        body = CachedBody(environ, rules)

        def read() -> bytes:
            stream = body.open()
            while stream.read(_STEP):
                pass
            return b""

        read()
        return read, body.close

    return way


def _stock_pieces(environ: WSGIEnvironment) -> tuple[Second, Close]:
    stream = Request(environ).stream
    while stream.read(_STEP):
        pass
    return lambda: b"", _nothing


WHOLE: dict[str, Way] = {
    "stock Flask": _stock,
    "ours": _ours,
    "pooled buffer": _buffered(_pool),
    "fresh buffer": _buffered(BufferPool(largest=16 * MIB, limit=0)),
    "SpooledTemporaryFile": _spooled,
}
PIECES: dict[str, Way] = {
    "stock Flask, once": _stock_pieces,
    "ours, pool": _pieces(_rules),
    "ours, no pool": _pieces(_unpooled),
}
WAYS = WHOLE | {f"pieces: {name}": way for name, way in PIECES.items()}


def _measure(way: Way, environ: WSGIEnvironment) -> tuple[float, float]:
    """Seconds for ingest, first access and release together, and for the second access."""
    start = time.perf_counter()
    second, close = way(environ)
    first = time.perf_counter() - start
    start = time.perf_counter()
    data = second()
    again = time.perf_counter() - start
    # What an application does with the bytes is not what is measured.
    del data
    start = time.perf_counter()
    close()
    return first + time.perf_counter() - start, again


def served(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer with what reading the request's body took, seconds."""
    way = WAYS[environ["HTTP_X_WAY"]] if "HTTP_X_WAY" in environ else None
    # Views run in one, and it is where Flask looks for MAX_CONTENT_LENGTH.
    with _app.app_context():
        figures = _measure(way, environ) if way else (0.0, 0.0)
    answer = json.dumps(figures).encode()
    start_response("200 OK", [("Content-Length", str(len(answer)))])
    return [answer]


# Behind servers


def _command(server: str, port: int) -> list[str]:
    if server == "werkzeug":
        code = (
            "import logging; logging.disable()\n"
            "from werkzeug.serving import run_simple\n"
            "from benchmarks.body import served\n"
            f"run_simple('127.0.0.1', {port}, served, threaded=True)"
        )
        return [sys.executable, "-c", code]
    return [
        sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "2", "--log-level",
        "error", "-b", f"127.0.0.1:{port}", "benchmarks.body:served",
    ]  # fmt: skip


def _ask(port: int, body: bytes, way: str | None) -> list[float]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = {} if way is None else {"X-Way": way}
    connection.request("POST", "/", body, headers)
    figures: list[float] = json.loads(connection.getresponse().read())
    connection.close()
    return figures


def behind(server: str, rounds: int) -> dict[int, dict[str, tuple[float, float]]]:
    """Minima by size and way, seconds: first access, and second."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = subprocess.Popen(_command(server, port), cwd=Path(__file__).parents[1])
    try:
        _wait(port)
        return {size: _interleaved(port, size, rounds) for size in SIZES}
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _ask(port, b"", None)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _interleaved(port: int, size: int, rounds: int) -> dict[str, tuple[float, float]]:
    body = os.urandom(size)
    minima = dict.fromkeys(WAYS, (1e9, 1e9))
    for _ in range(max(30, rounds // (1 + size // MIB))):
        for way in random.sample(list(WAYS), len(WAYS)):
            first, again = _ask(port, body, way)
            low, low_again = minima[way]
            minima[way] = min(low, first), min(low_again, again)
    return minima


# From memory


class _Source(io.RawIOBase):
    """A server's input that costs one copy, as a socket does."""

    def __init__(self, body: bytes) -> None:
        self._file = io.BytesIO(body)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._file.readinto(buffer)


def _environ(body: bytes) -> WSGIEnvironment:
    return {
        "REQUEST_METHOD": "POST",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.input": io.BufferedReader(_Source(body)),
        "wsgi.url_scheme": "http",
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
    }


def _alone(way: str, size: int, alive: int, rounds: int) -> tuple[float, float, int]:
    """Seconds and page faults a body, and how much the peak resident set grew, bytes."""
    body = os.urandom(size)
    read = WAYS[way]
    for _ in range(3):
        read(_environ(body))[1]()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = _peak()
    best = 1e9
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(rounds):
        environs = [_environ(body) for _ in range(alive)]
        start = time.perf_counter()
        held = [(read(environ), environ) for environ in environs]
        for (_, close), _ in held:
            close()
        best = min(best, time.perf_counter() - start)
        del held, environs
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    return best / alive, faults / rounds / alive, _peak() - before


def _peak() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * KIB
    raise OSError("no VmHWM in /proc/self/status")


def alone(way: str, size: int, alive: int, rounds: int) -> tuple[float, float, int]:
    """`_alone` in a fresh process."""
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_alone, (way, size, alive, rounds))


# Report


def _bytes(size: float) -> str:
    for unit, factor in (("MiB", MIB), ("KiB", KIB)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} B"


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows]) + "\n"


def _server_tables(found: dict[int, dict[str, tuple[float, float]]]) -> str:
    whole = _table(
        ["size", *WHOLE, "ours / stock"],
        [
            [_bytes(size)]
            + [f"{ways[way][0] * 1e6:.1f} + {ways[way][1] * 1e6:.1f}" for way in WHOLE]
            + [f"**{ways['ours'][0] / ways['stock Flask'][0]:.2f}**"]
            for size, ways in found.items()
        ],
    )
    pieces = _table(
        ["size", *PIECES, "pool / no pool"],
        [
            [_bytes(size)]
            + [
                f"{ways[f'pieces: {way}'][0] * 1e6:.1f} + {ways[f'pieces: {way}'][1] * 1e6:.1f}"
                for way in PIECES
            ]
            + [f"{ways['pieces: ours, pool'][0] / ways['pieces: ours, no pool'][0]:.2f}"]
            for size, ways in found.items()
        ],
    )
    return f"Whole, `get_data()`:\n\n{whole}\nIn pieces of 64 KiB:\n\n{pieces}"


def _memory_table(alive: int, rounds: int) -> str:
    rows = []
    seconds = {}
    for size in SIZES:
        count = max(5, rounds // (1 + size * alive // MIB))
        row = [_bytes(size)]
        for way in WAYS:
            seconds[way, size], faults, peak = alone(way, size, alive, count)
            row.append(f"{seconds[way, size] * 1e6:.1f}, {faults:.0f}, {_bytes(max(peak, 0))}")
        rows.append(row)
    lines = [_table(["size", *WAYS], rows)]
    for pooled, fresh in (
        ("pooled buffer", "fresh buffer"),
        ("pieces: ours, pool", "pieces: ours, no pool"),
    ):
        ratios = {size: seconds[pooled, size] / seconds[fresh, size] for size in SIZES}
        saved = [_bytes(size) for size in SIZES if ratios[size] <= 0.7]
        lost = [_bytes(size) for size in SIZES if ratios[size] > 1.0]
        shown = ", ".join(f"{_bytes(size)} {1 - ratio:+.0%}" for size, ratio in ratios.items())
        lines.append(
            f"Time saved by *{pooled}* against *{fresh}*: {shown}. The 30 % and more promised for "
            f"pools hold at {', '.join(saved) or 'no size'}; it loses at "
            f"{', '.join(lost) or 'no size'}.\n"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a glance: fewer rounds")
    parser.add_argument("--servers-only", action="store_true")
    options = parser.parse_args()
    rounds = 60 if options.quick else 300
    parts = [
        "# What keeping bodies costs\n",
        *(line + "\n" for line in (__doc__ or "").split("\n\n")[1:]),
        (
            f"Written by `make bench-body` on {platform.system()} {platform.machine()}, "
            f"{os.cpu_count()} cores, CPython {platform.python_version()}.\n"
        ),
    ]
    worst = 0.0
    for server in SERVERS:
        found = behind(server, rounds)
        parts += [
            f"## Behind {server}\n",
            (
                "Microseconds, minima of interleaved requests: ingest, first access and release, "
                "plus the second access.\n"
            ),
            _server_tables(found),
        ]
        worst = max(worst, *(ways["ours"][0] / ways["stock Flask"][0] for ways in found.values()))
        print("\n".join(parts[-3:]), flush=True)
    parts.append(f"Worst ratio of ours to stock Flask, `get_data()`: **{worst:.2f}**.\n")
    if not options.servers_only:
        for alive in (1, 8):
            parts += [
                f"## {alive} alive at once, from memory\n",
                (
                    "Microseconds a body (minimum), page faults a body, growth of the peak "
                    "resident set.\n"
                ),
                _memory_table(alive, rounds),
            ]
            print("\n".join(parts[-3:]), flush=True)
        RESULTS.write_text("\n".join(parts), encoding="utf-8")
    print(parts[-1] if options.servers_only else f"written to {RESULTS}")


if __name__ == "__main__":
    main()
