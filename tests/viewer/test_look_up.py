"""`flask bodytrace show` and `search`, as processes against a viewer; columns of wide text."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest

from flask_bodytrace.version import __version__
from flask_bodytrace.viewer import columns, look_up, server, tail
from flask_bodytrace.viewer.model import Span
from tests.viewer.running import RunningViewer as Viewer

pytestmark = pytest.mark.slow

TRACE = f"{0xAA:032x}"


@pytest.fixture
def filled(viewer: Viewer, make_span: Callable[..., Span]) -> Viewer:
    viewer.store.add(
        [
            make_span(0, 30, id=1, trace=0xAA, name="POST /订单", service="订单服务",
                      resource={"service.name": "订单服务"},
                      attributes={"order.id": "ORD1", "http.response.status_code": 201}),
            make_span(1, 2, id=2, parent=1, trace=0xAA, name="检查 库存", service="订单服务",
                      resource={"service.name": "订单服务"}),
        ]
    )  # fmt: skip
    for n in range(3):
        viewer.store.add([make_span(n, n + 50, trace=n + 1, name="GET /health", status=2)])
    return viewer


def command(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "OTEL_"))}
    return subprocess.run(
        [sys.executable, "-m", "flask", "bodytrace", *arguments],
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=60,
        check=False,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
    )


def test_show_prints_the_tree(filled: Viewer) -> None:
    done = command("show", TRACE.upper(), "--url", filled.url)
    assert done.stdout == (
        f"trace {TRACE}  30 ms  order.id=ORD1\n"
        "└─ POST /订单  订单服务  201  30 ms\n"
        "   └─ 检查 库存  订单服务  1 ms\n\n"
    )
    assert done.returncode == 0


def test_what_is_not_there_is_said(filled: Viewer) -> None:
    for trace, problem in (
        (f"{0xBB:032x}", "the viewer has no trace"),
        ("12", "'12' is no trace id: 32 hex digits are"),
    ):
        done = command("show", trace, "--url", filled.url)
        assert done.returncode == 1
        assert problem in done.stderr
        assert "Traceback" not in done.stderr
    with server.running(server.make(port=0)) as gone:
        pass
    for arguments in (("show", TRACE), ("search", "x")):
        done = command(*arguments, "--url", gone)
        assert (done.returncode, "no viewer at" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("search", "--min", "10x"), "--min '10x' is not accepted: use a duration such as 10ms"),
        (("search", "--min", "-1"), "--min '-1' is not accepted"),
        (("search", "--min", "nan"), "--min 'nan' is not accepted"),
        (("search", "--status", "6xx"), "--status '6xx' is not accepted: use ok, error, a status"),
        (("search", "--sort", "size"), "--sort 'size' is not accepted: use one of started, name"),
        (("search", "--sort", "--name"), "--sort '--name' is not accepted"),
        (("search", "--limit", "0"), "0 is not in the range"),
        (("tail", "--wait", "nan"), "nan is no number"),
        (("tail", "--wait", "-1"), "-1.0 is not in the range"),
        (("tail", "--wait", "inf"), "inf is not in the range"),
    ],
)
def test_an_option_that_makes_no_sense_is_said(arguments: tuple[str, ...], words: str) -> None:
    done = command(*arguments)
    assert (done.returncode, words in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


class _Impostor(BaseHTTPRequestHandler):
    """Answers as a viewer does, with what the server was given as `trace`."""

    def do_GET(self) -> None:
        body = json.dumps({"found": 1, "traces": [self.server.trace]}).encode()  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        ({"traceId": "\x1b]0;title\a"}, 0, "�]0;title"),
        ({"name": "\x1b[2J", "service": "\x1b[2J", "ids": [["\x1b", "\x1b"]]}, 0, TRACE),
        ({"start": 2**64}, 1, "something else than a trace viewer"),
        ({"start": -(2**70)}, 1, "something else than a trace viewer"),
    ],
)
def test_what_only_looks_like_a_viewer_steers_no_terminal(
    changes: dict[str, Any], status: int, words: str
) -> None:
    trace = {"traceId": TRACE, "name": "n", "service": "s", "start": 1, "duration": 1}
    with HTTPServer(("127.0.0.1", 0), _Impostor) as impostor:
        impostor.trace = {**trace, "errors": 0, "status": None, "ids": [], **changes}  # type: ignore[attr-defined]
        thread = Thread(target=impostor.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        done = command("search", "--url", f"http://127.0.0.1:{impostor.server_port}")
        impostor.shutdown()
        thread.join()
    assert (done.returncode, words in done.stdout + done.stderr) == (status, True), done
    assert "\x1b" not in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("sort", ["started", "-started", "-duration"])
def test_search_sorts(filled: Viewer, sort: str) -> None:
    done = command("search", "--sort", sort, "--min", "1 ms", "--status", "OK", "--url", filled.url)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1), done.stderr


def test_a_scheme_in_capitals_is_one(filled: Viewer) -> None:
    done = command("search", "order.id=ORD1", "--url", filled.url.replace("http", "HTTP"))
    assert done.returncode == 0, done.stderr


def test_a_store_without_a_name_is_said() -> None:
    done = command("viewer", "--store", "", "--port", "0", "--no-grpc")
    assert (done.returncode, "cannot keep traces in" in done.stderr) == (1, True), done.stderr


def test_search_prints_a_line_for_each_that_matches(filled: Viewer) -> None:
    done = command("search", "order.id=ORD1", "--url", filled.url)
    assert done.returncode == 0
    (line,) = done.stdout.splitlines()
    for text in ("201", "30 ms", "POST /订单", "订单服务", TRACE, "order.id=ORD1"):
        assert text in line
    done = command("search", "name=检查 库存", "--url", filled.url)
    assert TRACE in done.stdout
    done = command("search", "--status", "error", "--limit", "2", "--url", filled.url)
    assert len(done.stdout.splitlines()) == 2
    assert "3 match" in done.stderr
    done = command("search", "nothing-like-it", "--url", filled.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no trace matches" in done.stderr


def test_columns_stand_under_one_another_whatever_is_in_them(filled: Viewer) -> None:
    out = io.StringIO()
    assert look_up.search(tail.Source(filled.url), {}, 10, out) == 4
    starts = set()
    for line in out.getvalue().splitlines():
        before = line.partition(" 0000")[0]
        starts.add(columns.width(before))
    assert len(starts) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("abc", 3),
        ("订单", 4),
        ("한글", 4),
        ("\uff46\uff55\uff4c\uff4c", 8),
        ("é", 1),
        ("e\u0301", 1),
        ("", 0),
    ],
)
def test_width(text: str, expected: int) -> None:
    assert columns.width(text) == expected
    for to in (1, 2, 3, 5, 9):
        assert columns.width(columns.pad(text, to)) == to
        assert columns.width(columns.cut(text, to)) <= to


def test_words_with_spaces_are_quoted_again() -> None:
    words = ["a", "name=POST /orders", "two words", 'x "y z"', "-status=error"]
    assert look_up.query_of(words) == 'a name="POST /orders" "two words" x "y z" -status=error'


def test_a_token_is_sent() -> None:
    with server.running(server.make(port=0, token="s3cret-of-length")) as url:
        assert look_up.search(tail.Source(url, "s3cret-of-length"), {}, 5, io.StringIO()) == 0
        with pytest.raises(tail.CannotFollow, match=server.TOKEN_VARIABLE):
            look_up.search(tail.Source(url), {}, 5, io.StringIO())


def test_the_version() -> None:
    done = command("--version")
    assert done.stdout == f"flask_bodytrace, version {__version__}\n"
