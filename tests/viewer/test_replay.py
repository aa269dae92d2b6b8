"""What repeats a request, run for real: curl, HTTPie and Python against a server on a socket."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

import pytest
import requests
from flask import Flask, request
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace
from flask_bodytrace.viewer import commands
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.replay import Replay, replay_of
from tests.viewer.running import RunningViewer as Viewer

NASTY = "a'; rm -rf / #\n\"$(id)`id`<script>%%end\x1b[2J\u202e"
CONTENT = "http.request.body.content"
CUT = "bodytrace.request.body.truncated"
HEADER = "http.request.header."
HTTPIE = Path(sys.executable).with_name("http")


class Got:
    """The request that arrived last."""

    method = ""
    path = ""
    headers: tuple[tuple[str, str], ...] = ()
    body = b""

    def all_of(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]


class Target(ThreadingHTTPServer):
    """Takes whatever comes, and says that it has moved: nobody may follow."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[Got] = []

    @property
    def got(self) -> Got:
        (only,) = self.requests
        return only


class _Handler(BaseHTTPRequestHandler):
    server: Target

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline()
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        got = Got()
        got.method, got.path = self.command, self.path
        got.headers = tuple(self.headers.items())
        got.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append(got)
        self.send_response(302)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def target() -> Iterator[Target]:
    with Target() as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def span_for(
    make_span: Callable[..., Span], target: Target | None = None, /, **attributes: Any
) -> Span:
    base = {
        "http.request.method": "POST",
        "url.scheme": "http",
        "server.address": "127.0.0.1",
        "server.port": target.server_port if target else 8000,
        "url.path": "/orders",
    }
    return make_span(attributes={**base, **attributes})


def made(form: str, span: Span) -> str:
    replay = replay_of(span)
    assert replay is not None
    return commands.FORMS[form](replay)


def run(form: str, text: str, folder: Path) -> str:
    """Run it as a person would, in a folder of its own; gives what it prints."""
    if form == "curl" and shutil.which("curl") is None:
        pytest.skip("curl is not installed (Debian: apt-get install curl)")
    if form == "httpie":
        if not HTTPIE.exists():
            pytest.skip("HTTPie is not installed (pip install httpie)")
        text = text.replace("http ", f"{HTTPIE} --print=hb ", 1)
    program = [sys.executable, "-c"] if form == "python" else ["/bin/sh", "-c"]
    environment = {
        name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")
    }
    done = subprocess.run(
        [*program, text],
        capture_output=True,
        check=False,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        timeout=60,
        env={**environment, "HOME": str(folder), "PYTHONUTF8": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


FORMS = list(commands.FORMS)
JSON = {f"{HEADER}content-type": ["application/json"]}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "content",
    [
        '{"a":"b"}',
        "@/etc/passwd",
        "-o/tmp/x",
        "it's $(id) `id` \\ %s \\n !",
        '{\n "é": "订单 🛒"}',
        "line\r\nline\x1b[2J\u202e\x00end",
        b"\xff\x00\n'%\\-7\x80",
        b"-\xff",
        "",
    ],
    ids=range(9),
)
def test_the_captured_body_arrives_as_it_was_sent(
    make_span: Callable[..., Span],
    target: Target,
    tmp_path: Path,
    form: str,
    content: str | bytes,
) -> None:
    text = made(form, span_for(make_span, target, **{CONTENT: content}, **JSON))
    assert "#" not in text
    # What a terminal would obey is not there to be pasted.
    assert all(character == "\n" or character.isprintable() for character in text)
    printed = run(form, text, tmp_path)
    assert "302" in printed
    assert "/elsewhere" in printed
    got = target.got
    assert (got.method, got.path) == ("POST", "/orders")
    assert got.body == (content if isinstance(content, bytes) else content.encode())
    assert got.all_of("content-type") == ["application/json"]


@pytest.mark.parametrize("form", FORMS)
def test_headers_and_query_are_repeated_and_nothing_is_made_up(
    make_span: Callable[..., Span], target: Target, tmp_path: Path, form: str
) -> None:
    headers = {
        "x_tenant": ["acme"],
        "x-file": "@/etc/passwd",
        "x-json": "=1",
        "x-quote": "it's; $(id) `id` \\d \"",
        "x-several": ["1", "2"],
        "x-empty": "",
        "transfer-encoding": "chunked",
        "content-length": "5",
        "traceparent": f"00-{1:032x}-{1:016x}-01",
    }
    attributes = {f"{HEADER}{name}": value for name, value in headers.items()}
    query = {"url.query": "a=1&b=[1,2]{x}&c=%20$(id)"}
    span = span_for(make_span, target, **query, **attributes, **{CONTENT: "a b"})
    run(form, made(form, span), tmp_path)
    got = target.got
    assert got.path.startswith("/orders?a=1&b=")
    assert got.path.endswith("&c=%20$(id)")
    assert got.all_of("x-tenant") == ["acme"]
    assert got.all_of("x-file") == ["@/etc/passwd"]
    assert got.all_of("x-json") == ["=1"]
    assert got.all_of("x-quote") == ["it's; $(id) `id` \\d \""]
    assert ", ".join(got.all_of("x-several")) == "1, 2"
    assert got.all_of("x-empty") == [""]
    assert got.all_of("traceparent") == []
    assert got.all_of("transfer-encoding") == []
    # No type is on the span: none is sent.
    assert got.all_of("content-type") == []
    assert got.body == b"a b"


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
def test_methods_without_a_body_and_with_one(
    make_span: Callable[..., Span], target: Target, tmp_path: Path, form: str, method: str
) -> None:
    for content in ("", "x") if method != "HEAD" else ("",):
        target.requests.clear()
        span = span_for(
            make_span, target, **{"http.request.method": method, CONTENT: content}, **JSON
        )
        run(form, made(form, span), tmp_path)
        assert (target.got.method, target.got.body) == (method, content.encode())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("attributes", "why"),
    [
        ({}, "The body is not on the span."),
        ({CONTENT: '{"a":', CUT: True}, "The body on the span is cut."),
        ({CONTENT: b"\xff", CUT: True}, "The body on the span is cut."),
        ({CONTENT: "\ud800"}, "The body on the span is not what was sent."),
        ({CONTENT: {"a": 1}}, "The body on the span is not what was sent."),
        (
            {CONTENT: "é", f"{HEADER}content-type": ["text/plain; charset=ascii"]},
            "The body on the span is not what was sent.",
        ),
        (
            {CONTENT: "{}", f"{HEADER}content-type": ["multipart/form-data"]},
            "Of a form with files, only names and sizes are on the span.",
        ),
    ],
    ids=range(7),
)
def test_a_body_that_is_not_there_whole_is_said_to_be_missing(
    make_span: Callable[..., Span], form: str, attributes: dict[str, Any], why: str
) -> None:
    text = made(form, span_for(make_span, **attributes))
    assert text.splitlines()[0] == f"# {why} Put it into a file named body."
    assert "multipart" not in text


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_body_comes_from_a_file(
    make_span: Callable[..., Span], target: Target, tmp_path: Path, form: str
) -> None:
    (tmp_path / "body").write_bytes(b"\x00filled in\xff")
    run(form, made(form, span_for(make_span, target, **{CONTENT: "{", CUT: True})), tmp_path)
    assert target.got.body == b"\x00filled in\xff"


@pytest.mark.parametrize("form", FORMS)
def test_a_body_is_written_in_its_charset(
    make_span: Callable[..., Span], target: Target, tmp_path: Path, form: str
) -> None:
    kind = {f"{HEADER}content-type": ["text/plain; charset=iso-8859-1"]}
    run(form, made(form, span_for(make_span, target, **{CONTENT: "é"}, **kind)), tmp_path)
    assert target.got.body == b"\xe9"


@pytest.mark.parametrize("form", FORMS)
def test_secrets_are_left_to_fill_in(make_span: Callable[..., Span], form: str) -> None:
    span = span_for(make_span, **{f"{HEADER}authorization": "s3cret", CONTENT: "x"})
    text = made(form, span)
    assert text.startswith("# Fill in what is REDACTED.\n")
    assert "s3cret" not in text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "attributes",
    [
        {"url.path": f"/{NASTY}"},
        {"url.query": NASTY},
        {"server.address": NASTY},
        {"url.full": f"http://x/{NASTY}"},
        {f"{HEADER}x": NASTY},
        {f"{HEADER}{NASTY}": "x"},
        {f"{HEADER}@/etc/passwd": "x"},
        {f"{HEADER}-o/tmp/x": "x"},
        {f"{HEADER}--help": "x"},
        {CONTENT: NASTY},
    ],
    ids=range(10),
)
def test_nothing_in_a_span_becomes_a_command_or_an_option(
    make_span: Callable[..., Span], form: str, attributes: dict[str, str]
) -> None:
    text = made(form, span_for(make_span, **attributes))
    assert "\x1b" not in text
    assert "\u202e" not in text
    if form == "python":
        given = python_arguments(text)
        assert given["method"] == "POST"
        assert given["url"].startswith("http://")
        assert all(name == "x" for name in given["headers"] or {})
        return
    words = arguments_of("curl" if form == "curl" else "http", text)
    begin = ["-i", "-g", "-X", "POST"] if form == "curl" else ["--ignore-stdin", "POST"]
    found = [word for word in words if word.startswith("-")]
    assert set(found) <= {*begin, "-H", "--data-binary"}
    assert len([word for word in words if word.startswith("http://")]) == 1
    assert {word for word in words if word.startswith("@")} <= {"@body", "@-"}


def arguments_of(program: str, text: str) -> list[str]:
    """What a real shell makes of a command."""
    script = f'{program}() {{ printf "%s\\0" "$@"; }}\n: >body\n{text}'
    with TemporaryDirectory() as folder:
        done = subprocess.run(
            ["/bin/sh", "-c", script], capture_output=True, check=True, text=True, cwd=folder
        )
    assert done.stderr == ""
    return done.stdout.split("\0")[:-1]


def python_arguments(text: str) -> dict[str, Any]:
    """What `requests.request` would be called with: read as an expression, not run."""
    (call,) = [
        node.value
        for node in ast.parse(text).body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
    ]
    method, url = (ast.literal_eval(one) for one in call.args)
    headers = [one for one in call.keywords if one.arg == "headers"]
    return {
        "method": method,
        "url": url,
        "headers": ast.literal_eval(headers[0].value) if headers else None,
    }


def test_httpie_says_which_header_it_cannot_write(make_span: Callable[..., Span]) -> None:
    span = span_for(make_span, **{f"{HEADER}x-path": "C:\\;", f"{HEADER}x-two": "a\\\\=b"})
    text = made("httpie", span)
    assert "# HTTPie has no way to write the value of x-path.\n" in text
    assert "x-path: " not in text
    assert "x-two: " in text


@pytest.mark.parametrize(
    "attributes",
    [{"url.full": "file:///etc/passwd"}, {"url.full": "-o/tmp/x"}, {"http.request.method": "; id"}],
)
def test_what_is_no_http_request_is_not_repeated(
    make_span: Callable[..., Span], attributes: dict[str, str]
) -> None:
    assert replay_of(span_for(make_span, **attributes)) is None


def test_what_an_application_captured_is_what_is_sent_again() -> None:
    app = Flask("orders")
    app.debug = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    provider = TracerProvider()
    BodyTrace(app, tracer_provider=provider, viewer="on", capture_body="always")
    seen: list[bytes] = []

    @app.post("/orders")
    def create() -> str:
        seen.append(request.get_data())
        return "made"

    client = app.test_client()
    client.post("/orders?a=1", data='{"orderId": "订单"}', content_type="application/json")
    (trace,) = client.get("/_bodytrace/traces.json").get_json()["traces"]
    spans = client.get(f"/_bodytrace/trace/{trace['traceId']}/python.py").text
    assert repr(seen[0].decode()) in spans


@pytest.mark.parametrize("form", FORMS)
def test_pages_and_the_command_give_the_same(
    viewer: Viewer, make_span: Callable[..., Span], form: str
) -> None:
    span = span_for(make_span, **{CONTENT: "订单"}, **JSON)
    viewer.store.add([span])
    file = {"curl": "curl.sh", "httpie": "httpie.sh", "python": "python.py"}[form]
    answer = requests.get(f"{viewer.url}/trace/{span.trace_id}/{file}", timeout=10)
    expected = made(form, span)
    assert answer.text == expected
    arguments = ["bodytrace", "show", span.trace_id, "--url", viewer.url, "--as", form]
    done = subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        capture_output=True,
        check=True,
        encoding="utf-8",
        env={**os.environ, "PYTHONUTF8": "1"},
        timeout=60,
    )
    assert done.stdout == expected
    viewer.store.add([make_span(trace=2)])
    arguments[2] = f"{2:032x}"
    done = subprocess.run(
        [sys.executable, "-m", "flask", *arguments],
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=60,
    )
    assert done.returncode == 1
    assert "does not start with an HTTP request" in done.stderr
    path = f"{viewer.url}/trace/{2:032x}/{file}"
    assert requests.get(path, timeout=10).status_code == 404


def test_a_plain_request_is_a_plain_command() -> None:
    replay = Replay("GET", "http://x/", [], None)
    assert commands.curl(replay) == "curl -i -g http://x/\n"
    assert commands.httpie(replay) == "http --ignore-stdin GET http://x/\n"
