"""`flask bodytrace viewer` and `flask bodytrace tail`, as processes and in parts."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import IO

import pytest
import requests

from flask_bodytrace.viewer import otlp_writer, server, tail
from flask_bodytrace.viewer.model import Span
from tests.viewer.running import RunningViewer as Viewer

TRACE = f"{1:032x}"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def spans(make_span: Callable[..., Span]) -> list[Span]:
    orders = {"service": "orders", "resource": {"service.name": "orders"}}
    pay = {"service": "pay", "resource": {"service.name": "pay"}}
    status = {"http.response.status_code": 201, "order.id": "ORD1"}
    return [
        make_span(0, 30, id=1, name="POST /orders", **orders, attributes=status),
        make_span(1, 2, id=2, parent=1, name="validate", **orders),
        make_span(5, 20, id=3, parent=1, name="POST /pay", **pay, status=2,
                  status_message="declined"),
        make_span(6, 8, id=4, parent=3, name="SELECT", **pay),
        make_span(3, 9, id=5, parent=3, name="early", **pay),
        make_span(21, 22, id=6, parent=99, name="lost", **pay),
    ]  # fmt: skip


EXPECTED = f"""\
trace {TRACE}  30 ms  order.id=ORD1
├─ POST /orders  orders  201  30 ms
│  ├─ validate  orders  1 ms
│  └─ POST /pay  pay  15 ms  error declined
│     ├─ early  pay  6 ms  (starts 2 ms before its parent)
│     └─ SELECT  pay  2 ms
└─ lost  pay  1 ms  (its parent was not received)

"""


def test_plain_when_piped(spans: list[Span]) -> None:
    out = io.StringIO()
    tail.printer(out)(spans)
    assert out.getvalue() == EXPECTED


def test_the_same_in_colour_in_a_terminal(
    spans: list[Span], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "TTY_COMPATIBLE", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    out = Terminal()
    tail.printer(out)(spans)
    text = out.getvalue()
    assert "\x1b[1;31mPOST /pay" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert [line.rstrip() for line in plain.splitlines()] == EXPECTED.splitlines()


def test_nothing_in_a_name_steers_the_terminal(make_span: Callable[..., Span]) -> None:
    nasty = "\x1b[2J\x1b]0;title\x07[red]x[/red]\r\nforged line\u202e\x9b31m"
    span = make_span(
        name=nasty, service=nasty, status=2, status_message=nasty, attributes={"order.id": nasty}
    )
    for out in (io.StringIO(), Terminal()):
        tail.printer(out)([span])
        text = re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue())
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text)
        assert "[red]x[/red]" in text
        assert len(text.splitlines()) == 3


def test_a_trace_comes_once_it_is_finished_and_again_when_it_grew(
    viewer: Viewer, spans: list[Span], make_span: Callable[..., Span]
) -> None:
    viewer.store.add([make_span(trace=0xEE)])
    found: list[list[str]] = []
    grown = Event()
    stop = Event()
    started = Event()
    source = tail.Source(viewer.url)
    ask = source.changed

    def changed(after: int) -> tail.Changed:
        answer = ask(after)
        started.set()
        return answer

    source.changed = changed  # type: ignore[method-assign]

    def run() -> None:
        for one in tail.finished(source, 0.05, stop):
            found.append([span.name for span in one])
            (grown if len(found) == 1 else stop).set()

    thread = Thread(target=run)
    thread.start()
    assert started.wait(10)
    viewer.store.add(spans[1:2])
    viewer.store.add(spans[:1])
    assert grown.wait(10)
    viewer.store.add(spans[2:3])
    thread.join(10)
    assert found == [["POST /orders", "validate"], ["POST /orders", "validate", "POST /pay"]]


def test_no_viewer_is_said() -> None:
    with server.running(server.make(port=0)) as url:
        pass
    with pytest.raises(tail.CannotFollow, match="no viewer at"):
        tail.follow_or_serve(url, 1, sys.stdout)
    with pytest.raises(tail.CannotFollow, match="no http"):
        tail.follow_or_serve("file:///etc/passwd", 1, sys.stdout)


def test_a_token_is_asked_for_and_sent() -> None:
    with server.running(server.make(port=0, token="s3cret-of-length")) as url:
        with pytest.raises(tail.CannotFollow, match=server.TOKEN_VARIABLE):
            tail.Source(url).changed(0)
        assert tail.Source(url, "s3cret-of-length").changed(0)["traces"] == []


@contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], IO[str], IO[str]]]:
    """`flask bodytrace …` as its user runs it, without an application."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "bodytrace", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        yield process, process.stdout, process.stderr
    finally:
        process.kill()
        process.communicate()


def test_the_commands_work_together(spans: list[Span]) -> None:
    with command("viewer", "--port", "0") as (process, out, _):
        found = re.search(r"http://127\.0\.0\.1:\d+", out.readline())
        assert found is not None
        url = found[0]
        assert requests.get(url, timeout=10).status_code == 200
        with command("tail", url, "--wait", "0.1") as (follower, printed, told):
            assert f"Following {url}" in told.readline()
            lines: list[str] = []
            read = Thread(
                target=lambda: lines.extend(printed.readline() for _ in range(7)), daemon=True
            )
            read.start()
            # What is there when it first asks is no news to it: so another comes, until it has.
            for number in range(1, 40):
                body = otlp_writer.to_json(spans).replace(TRACE, f"{number:032x}")
                headers = {"Content-Type": "application/json"}
                sent = requests.post(f"{url}/v1/traces", data=body, headers=headers, timeout=10)
                assert sent.status_code == 200
                read.join(0.5)
                if not read.is_alive():
                    break
            text = re.sub(r"^trace \w+", f"trace {TRACE}", "".join(lines))
            assert text == EXPECTED.removesuffix("\n")
            follower.send_signal(signal.SIGINT)
            assert follower.wait(10) == 0
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_an_address_others_reach_needs_a_token() -> None:
    with command("viewer", "--host", "0.0.0.0", "--port", "0") as (process, _, told):  # noqa: S104 - refused
        assert process.wait(20) == 1
        text = told.read()
    assert server.TOKEN_VARIABLE in text
    assert "Traceback" not in text


def test_where_no_viewer_is_it_is_one_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], spans: list[Span]
) -> None:
    made = server.make(port=0)
    with server.running(server.make(port=0)) as url:
        pass
    monkeypatch.setattr(server, "make", lambda **_: made)
    monkeypatch.setattr(tail, "DEFAULT_URL", url)

    class Done(Exception):
        pass

    def finished(source: tail.Source, wait: float, stop: Event) -> Iterator[list[Span]]:
        del wait, stop
        assert source.changed(0)["traces"] == []
        yield spans
        raise Done

    monkeypatch.setattr(tail, "finished", finished)
    with pytest.raises(Done):
        tail.follow_or_serve(url + "/", 1, sys.stdout)
    printed, told = capsys.readouterr()
    assert printed == EXPECTED
    assert told.startswith(f"Receiving OTLP/HTTP, traces also at {server.url_of(made)}/")


def test_a_viewer_started_anew_counts_from_zero() -> None:
    asked: list[int] = []
    stop = Event()

    class Restarted(tail.Source):
        def changed(self, after: int) -> tail.Changed:
            asked.append(after)
            if len(asked) == 4:
                stop.set()
            return {"version": 7 if len(asked) < 2 else 2, "traces": []}

    monitor = Restarted("http://127.0.0.1:1")
    assert list(tail.finished(monitor, 0, stop)) == []
    assert asked == [0, 7, 0, 2]
