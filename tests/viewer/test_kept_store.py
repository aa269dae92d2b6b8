"""The store with a file: the same traces after a restart, the same searches, the same bounds."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_bodytrace.viewer import otlp_writer
from flask_bodytrace.viewer.kept_store import CannotKeep, KeptStore
from flask_bodytrace.viewer.model import Event, Link, LogRecord, Span
from flask_bodytrace.viewer.search import Filter
from flask_bodytrace.viewer.store import Limits

TRACE = f"{1:032x}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "traces.db"


def rich_span(make_span: Callable[..., Span], **changes: Any) -> Span:
    attributes = {
        "order.id": "ORD1", "n": 5, "share": 0.5, "yes": True, "raw": b"\x00\xff", "none": None,
        "list": ["a", 1], "map": {"k": [1]},
    }  # fmt: skip
    return make_span(
        attributes=attributes, resource={"service.name": "shop"},
        events=[Event("exception", 5, {"exception.type": "Lost"})],
        links=[Link(f"{9:032x}", f"{9:016x}", {"why": "x"})], **changes,
    )  # fmt: skip


def test_it_is_there_again_after_a_restart(path: Path, make_span: Callable[..., Span]) -> None:
    store = KeptStore(path)
    spans = [rich_span(make_span, id=1), rich_span(make_span, id=2, parent=1)]
    log = LogRecord(TRACE, f"{1:016x}", 5, "WARN", 13, {"text": "low"}, "shop", "", {"a": 1})
    store.add(spans, [log, log])
    store.close()
    again = KeptStore(path)
    trace = again.trace(TRACE)
    assert trace is not None
    assert list(trace.spans) == spans
    assert list(trace.logs) == [log, log]
    # Resources are shared, and weighed once, as they were.
    assert trace.spans[0].resource is trace.spans[1].resource
    assert again.size <= store.size
    for query in ("order.id=ORD1", "exception=Lost", "log=", "-nothing"):
        assert len(Filter(text=query).of(again, again.summaries())) == 1
    # A span that is sent again replaces itself in the file, too.
    again.add(spans)
    again.close()
    with closing(KeptStore(path)) as third:
        assert len(third) == 4


def test_what_goes_from_the_store_goes_from_the_file(
    path: Path, make_span: Callable[..., Span]
) -> None:
    limits = Limits(traces=3)
    store = KeptStore(path, limits)
    for trace in range(1, 10):
        store.add([make_span(trace=trace, attributes={"text": "x" * 10_000})])
    store.close()
    with closing(sqlite3.connect(path)) as file:
        found = {int(row[0], 16) for row in file.execute("SELECT trace_id FROM item")}
    assert found == {7, 8, 9}
    assert path.stat().st_size < 100_000
    # A smaller store takes the latest.
    with closing(KeptStore(path, Limits(traces=1))) as smaller:
        assert {int(summary.trace_id, 16) for summary in smaller.summaries()} == {9}


def bodies(store: KeptStore) -> list[Any]:
    return [entry.record.body for entry in store.logs()]


def in_file(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as file:
        return [row[0] for row in file.execute("SELECT trace_id FROM item ORDER BY number")]


def free(body: str) -> LogRecord:
    """Of no trace. All of one time: nothing but its place tells it from others."""
    return LogRecord("", None, 5, "WARN", 13, body, "shop", "log", {"a": 1})


def test_log_records_of_no_trace_are_there_again(
    path: Path, make_span: Callable[..., Span]
) -> None:
    for number in range(3):
        store = KeptStore(path)
        assert bodies(store) == [str(before) for before in range(number * 2)]
        of_trace = msgspec.structs.replace(free(str(number * 2 + 1)), trace_id=TRACE)
        store.add([make_span()], [free(str(number * 2)), of_trace])
        store.close()
    last = KeptStore(path)
    assert last.logs()[0].record == free("0")
    assert len(last) == 6
    last.close()


def test_log_records_that_go_from_the_page_go_from_the_file(path: Path) -> None:
    limits = Limits(logs=5_000)
    store = KeptStore(path, limits)
    store.add((), [free("x" * 10_000)])
    for number in range(100):
        store.add((), [free(f"{number} {again}") for again in range(3)])
    kept = bodies(store)
    store.close()
    assert kept[-1] == "99 2"
    assert len(in_file(path)) == len(kept) < 10
    again = KeptStore(path, limits)
    assert bodies(again) == kept
    again.add((), [free("new")])
    kept = bodies(again)
    again.close()
    # What a smaller store has no room for goes from the file, too.
    smaller = KeptStore(path, Limits(logs=2_000))
    assert bodies(smaller) == kept[-len(bodies(smaller)) :]
    left = len(bodies(smaller))
    smaller.close()
    assert 0 < len(in_file(path)) == left < len(kept)
    KeptStore(path, Limits(logs=100)).close()
    assert in_file(path) == []


def test_what_a_trace_has_no_room_for_is_not_in_the_file(
    path: Path, make_span: Callable[..., Span]
) -> None:
    store = KeptStore(path, Limits(trace_items=3))
    log = msgspec.structs.replace(free("x"), trace_id=TRACE)
    for _ in range(20):
        store.add([make_span()], [log])
    store.close()
    assert len(in_file(path)) == 3
    KeptStore(path, Limits(trace_items=2)).close()
    assert len(in_file(path)) == 2


VALUES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(st.dictionaries(st.text(st.characters(), max_size=8), VALUES, max_size=4), st.integers(0))
def test_whatever_is_in_a_span_is_kept(
    tmp_path_factory: pytest.TempPathFactory,
    make_span: Callable[..., Span],
    attributes: dict[str, Any],
    number: int,
) -> None:
    path = tmp_path_factory.mktemp("store") / "traces.db"
    store = KeptStore(path)
    log = LogRecord(TRACE, None, 5, "", 0, number, "", "", attributes)
    store.add([make_span(id=1, attributes=attributes, resource=attributes, name="a\ud800")], [log])
    store.add([make_span(id=2, attributes={"n": number})])
    store.close()
    again = KeptStore(path)
    assert len(again) == 3
    again.close()


@pytest.mark.parametrize("other", ["text", "database", "directory", "version"])
def test_another_file_is_refused_and_left_alone(path: Path, other: str) -> None:
    if other == "directory":
        path.mkdir()
    elif other == "text":
        path.write_text("no database, but long enough to be looked at\n" * 100, "utf-8")
    elif other == "version":
        KeptStore(path).close()
        with closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 99")
    else:
        with closing(sqlite3.connect(path)) as file:
            file.execute("CREATE TABLE orders (id)")
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(CannotKeep, match=re.escape(str(path))):
        KeptStore(path)
    assert not path.is_file() or path.read_bytes() == before


def start(path: Path) -> tuple[subprocess.Popen[str], str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "OTEL_"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "bodytrace", "viewer", "--port", "0", "--store", str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
    assert found is not None
    return process, found[0]


LOG = '{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"of no trace"}}]}]}]}'


def test_the_command_keeps_traces_over_a_restart(
    path: Path, make_span: Callable[..., Span]
) -> None:
    body = otlp_writer.to_json([make_span(name="POST /orders")])
    for number in range(2):
        process, url = start(path)
        try:
            if number == 0:
                headers = {"Content-Type": "application/json"}
                for signal_, sent in (("traces", body), ("logs", LOG)):
                    to = f"{url}/v1/{signal_}"
                    assert requests.post(to, data=sent, headers=headers, timeout=10).ok
            assert "POST /orders" in requests.get(url, timeout=10).text
            assert "of no trace" in requests.get(f"{url}/logs", timeout=10).text
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()
            process.communicate()


DAMAGE = [
    *("UPDATE item SET data = x'ffff'", "UPDATE item SET data = x''", "UPDATE item SET data = 'x'"),
    *("UPDATE item SET form = 'log'", "UPDATE item SET data = x'80'"),
    *("UPDATE resource SET data = x'c1'", "UPDATE resource SET data = x'9101'"),
    *("ALTER TABLE item DROP COLUMN form", "UPDATE item SET key = CAST(x'ff' AS TEXT)"),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_told_in_words(
    tmp_path: Path, make_span: Callable[..., Span], damage: str
) -> None:
    path = tmp_path / "traces.db"
    with closing(KeptStore(path)) as store:
        store.add([make_span(trace=1, resource={"service.name": "shop"})])
    with closing(sqlite3.connect(path)) as file:
        file.executescript(damage)
    with pytest.raises(CannotKeep, match=re.escape(str(path))):
        KeptStore(path)
