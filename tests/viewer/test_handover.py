"""Traces survive Flask's reloader: a real `flask run --debug`, whose application is edited."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from flask_bodytrace.viewer import handover
from flask_bodytrace.viewer.model import Event, Link, LogRecord, Span
from flask_bodytrace.viewer.store import Limits, TraceStore

APPLICATION = """
import logging, os, sys
from flask import Flask
from flask_bodytrace import BodyTrace
app = Flask(__name__)
BodyTrace(app, ids="order.id=orderId")
print("loaded {edit}", os.environ.get("WERKZEUG_RUN_MAIN"), file=sys.stderr, flush=True)

@app.post("/orders")
def order():
    logging.getLogger("shop").warning("low stock")
    return "{edit}"
"""
NAME = "_BODYTRACE_HANDOVER"


class Reloading:
    """`flask run --debug` in a folder of its own, and a temporary folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "shop.py"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.edit("first")
        environment = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("FLASK_", "OTEL_", "WERKZEUG_"))
        }
        environment |= {"TMPDIR": str(self.temporary), "PYTHONUNBUFFERED": "1"}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flask", "--app", "shop", "run", "--debug", "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.lines = iter(self.process.stderr)
        self.url = self.until(r"http://\S+")
        self.until("loaded first true")

    def edit(self, name: str, more: str = "") -> None:
        self.program.write_text(APPLICATION.replace("{edit}", name) + more)

    def until(self, pattern: str) -> str:
        """Wait until it says this."""
        said = []
        for line in self.lines:
            said.append(line)
            if found := re.search(pattern, line):
                return found[0]
        raise AssertionError("".join(said))

    def order(self, number: int) -> requests.Response:
        # Once it answers, the reloader has seen the files as they are.
        body = {"orderId": f"ORD{number}"}
        return requests.post(f"{self.url}/orders", json=body, timeout=30)

    def get(self, path: str) -> Any:
        return requests.get(f"{self.url}/_bodytrace/{path}", timeout=30)

    @property
    def ids(self) -> list[str]:
        traces = self.get("traces.json").json()["traces"]
        return [value for trace in traces for _, value in trace["ids"]]

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.communicate()


@pytest.fixture
def reloading(tmp_path: Path) -> Iterator[Reloading]:
    started = Reloading(tmp_path)
    yield started
    started.end()


def test_traces_are_there_after_a_reload_and_after_one_that_failed(reloading: Reloading) -> None:
    assert reloading.order(1).text == "first"
    version = reloading.get("changed.json").json()["version"]
    assert list(reloading.temporary.iterdir()) == []
    reloading.edit("second")
    reloading.until("loaded second true")
    # It was served by the process before, and is told no news.
    assert reloading.ids == ["ORD1"]
    changed = reloading.get(f"changed.json?after={version}").json()
    assert changed == {"version": version, "traces": []}
    trace = reloading.get("traces.json").json()["traces"][0]["traceId"]
    assert "low stock" in reloading.get(f"trace/{trace}/span/{span_of(reloading, trace)}").text
    assert reloading.order(2).text == "second"
    assert reloading.ids == ["ORD2", "ORD1"]
    # Taken, and nothing is left.
    assert list(reloading.temporary.iterdir()) == []
    # A mistake: nobody takes what was left, until it is mended.
    reloading.edit("third", "\n(")
    reloading.until("SyntaxError")
    assert reloading.order(3).status_code == 500
    (folder,) = reloading.temporary.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    reloading.edit("fourth")
    reloading.until("loaded fourth true")
    assert reloading.ids == ["ORD2", "ORD1"]
    assert list(reloading.temporary.iterdir()) == []
    reloading.end()
    assert list(reloading.temporary.iterdir()) == []


def span_of(reloading: Reloading, trace: str) -> str:
    otlp = reloading.get(f"trace/{trace}/otlp.json").json()
    span_id: str = otlp["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["spanId"]
    return span_id


def test_what_nobody_took_is_removed_in_the_end(reloading: Reloading) -> None:
    reloading.order(1)
    reloading.edit("second", "\n(")
    reloading.until("SyntaxError")
    assert len(list(reloading.temporary.iterdir())) == 1
    reloading.process.send_signal(signal.SIGINT)
    reloading.process.communicate()
    assert list(reloading.temporary.iterdir()) == []


@pytest.fixture
def as_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As in a process that the reloader started; gives the folder it named."""
    folder = tmp_path / "left"
    monkeypatch.setenv("WERKZEUG_RUN_MAIN", "true")
    monkeypatch.setenv(NAME, f"{os.getppid()}:{folder}")
    return folder


class Exits:
    """What is to run at exit."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._functions: list[Callable[[], None]] = []
        self._monkeypatch = monkeypatch
        monkeypatch.setattr("atexit.register", self._functions.append)

    def end(self) -> None:
        """The process ends; the next one counts its applications anew."""
        while self._functions:
            self._functions.pop()()
        self.begin()

    def begin(self) -> None:
        self._monkeypatch.setattr(handover, "_numbers", iter(range(10)))


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> Exits:
    found = Exits(monkeypatch)
    found.begin()
    return found


def full(make_span: Callable[..., Span]) -> TraceStore:
    store = TraceStore(Limits(trace_items=3))
    attributes = {"order.id": "ORD1", "raw": b"\xff", "large": 2**70, "half": "a\ud800"}
    shared = {"service.name": "shop"}
    store.add(
        [
            make_span(id=1, resource=shared, events=[Event("e", 5, {"x": 1})]),
            make_span(id=2, resource=shared, links=[Link(f"{9:032x}", f"{9:016x}", {})]),
            make_span(id=3, attributes={"list": ["a", 1]}, resource=shared),
            make_span(id=4, resource=shared),
        ]
    )
    store.add([make_span(trace=2, id=5, attributes=attributes, resource=shared, service="shop")])
    log = LogRecord(f"{2:032x}", f"{5:016x}", 5, "WARN", 13, {"text": "low"}, "shop", "", {"a": 1})
    store.add((), [log])
    return store


def test_a_store_is_the_same_in_the_next_process(
    as_a_child: Path, exits: Exits, make_span: Callable[..., Span]
) -> None:
    stores = [full(make_span), TraceStore()]
    stores[1].add([make_span(trace=7, name="other")])
    for store in stores:
        handover.keep(store)
    exits.end()
    assert sorted(path.name for path in as_a_child.iterdir()) == ["0", "1"]
    again = [TraceStore(), TraceStore()]
    for store in again:
        handover.keep(store)
    for before, after in zip(stores, again, strict=True):
        assert after.summaries() == before.summaries()
        assert after.version == before.version
        for summary in before.summaries():
            assert after.version_of(summary.trace_id) == before.version_of(summary.trace_id)
            old, new = before.trace(summary.trace_id), after.trace(summary.trace_id)
            assert old is not None
            assert new is not None
            assert new.logs == old.logs
            assert new.summary.left_out == old.summary.left_out
    first = again[0].trace(f"{1:032x}")
    assert first is not None
    assert list(first.spans) == list(full(make_span).trace(f"{1:032x}").spans)  # type: ignore[union-attr]
    assert first.spans[0].resource is first.spans[1].resource
    assert not as_a_child.exists()


def test_a_smaller_store_takes_the_latest(
    as_a_child: Path, exits: Exits, make_span: Callable[..., Span]
) -> None:
    store = TraceStore()
    for trace in range(1, 6):
        store.add([make_span(trace=trace)])
    handover.keep(store)
    exits.end()
    again = TraceStore(Limits(traces=2))
    handover.keep(again)
    assert {int(summary.trace_id, 16) for summary in again.summaries()} == {4, 5}
    assert not as_a_child.exists()


@pytest.mark.parametrize("what", ["open", "link", "torn", "format"])
def test_what_is_not_ours_is_not_read(
    as_a_child: Path,
    exits: Exits,
    make_span: Callable[..., Span],
    caplog: pytest.LogCaptureFixture,
    what: str,
) -> None:
    store = full(make_span)
    handover.keep(store)
    exits.end()
    path = as_a_child / "0"
    if what == "open":
        as_a_child.chmod(0o755)
    elif what == "link":
        as_a_child.rename(as_a_child.with_name("elsewhere"))
        as_a_child.symlink_to(as_a_child.with_name("elsewhere"))
    elif what == "torn":
        path.write_bytes(path.read_bytes()[:100])
    else:
        path.write_bytes(b"\x81\xa6format\x63")
    again = TraceStore()
    handover.keep(again)
    assert len(again) == 0
    assert ("did not survive" in caplog.text) is (what != "format")


@pytest.mark.parametrize("why", ["no reloader", "another's child", "a fork"])
def test_without_a_reloader_of_its_own_nothing_is_written(
    as_a_child: Path,
    exits: Exits,
    make_span: Callable[..., Span],
    monkeypatch: pytest.MonkeyPatch,
    why: str,
) -> None:
    if why == "no reloader":
        monkeypatch.delenv("WERKZEUG_RUN_MAIN")
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(as_a_child.parent))
    elif why == "another's child":
        monkeypatch.setenv(NAME, f"1{os.getppid()}:{as_a_child}")
    store = full(make_span)
    handover.keep(store)
    if why == "a fork":
        monkeypatch.setattr("os.getpid", lambda: -1)
    exits.end()
    assert list(as_a_child.parent.iterdir()) == []
