"""W3C Trace Context, Level 1 and 2, end to end: what comes into a Flask application over a socket
goes out with `requests`, or does not. Section numbers are those of the Level 2 recommendation.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask, request
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{PARENT}-01"
SENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")

Headers = list[tuple[str, str]]


class Hop:
    """A service that is called with chosen raw headers and itself calls on, `times` over."""

    def __init__(self, url: str, heard: Headers) -> None:
        self._address = urlsplit(url)
        self._heard = heard

    def headers(self, headers: Headers, times: int = 1) -> list[dict[str, str]]:
        """The trace headers of each call made below one request with `headers`."""
        self._heard.clear()
        address = (self._address.hostname or "", self._address.port or 0)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        message = f"GET /{times} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"
        with socket.create_connection(address, 10) as connection:
            connection.sendall(message.encode("latin-1"))
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer
        calls: list[dict[str, str]] = []
        for name, value in self._heard:
            if name == "call":
                calls.append({})
            else:
                assert name not in calls[-1]
                calls[-1][name] = value
        assert len(calls) == times
        return calls

    def traceparent(self, headers: Headers) -> tuple[str, str, int]:
        """Trace id, parent id and flags that arrive below one request with `headers`."""
        match = SENT.fullmatch(self.headers(headers)[0]["traceparent"])
        assert match is not None
        assert int(match[1], 16)
        assert int(match[2], 16)
        return match[1], match[2], int(match[3], 16)

    def goes_on(self, traceparent: str, name: str = "traceparent") -> bool:
        """Whether the caller's trace is continued; its parent id never is."""
        trace_id, parent_id, _ = self.traceparent([(name, traceparent)])
        assert parent_id != PARENT
        return trace_id == TRACE

    def state(self, *tracestate: str, name: str = "tracestate") -> str | None:
        """The tracestate that arrives below one request with these fields."""
        headers = [("traceparent", GOOD), *((name, value) for value in tracestate)]
        call = self.headers(headers)[0]
        assert call["traceparent"].startswith(f"00-{TRACE}-")
        return call.get("tracestate")


@pytest.fixture
def hop(
    make_app: Callable[..., Flask], serve: Callable[[Any], str], provider: TracerProvider
) -> Iterator[Hop]:
    heard: Headers = []
    end = Flask("end")

    @end.get("/")
    def listen() -> str:
        heard.append(("call", ""))
        names = ("traceparent", "tracestate")
        heard.extend((n.lower(), v) for n, v in request.headers if n.lower() in names)
        return ""

    end_url = serve(end)
    app = make_app()

    @app.get("/<int:times>")
    def call_on(times: int) -> str:
        with requests.Session() as session:
            for _ in range(times):
                session.get(end_url, timeout=10)
        return ""

    instrumentor = RequestsInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    yield Hop(serve(app), heard)
    instrumentor.uninstrument()


# 3.2 traceparent


def test_without_traceparent_a_trace_starts(hop: Hop) -> None:
    trace_id, _, flags = hop.traceparent([])
    assert trace_id != TRACE
    assert flags == 3


def test_a_traceparent_is_continued(hop: Hop) -> None:
    assert hop.goes_on(GOOD)


@pytest.mark.parametrize("name", ["Traceparent", "TraceParent", "TRACEPARENT", "tRaCePaReNt"])
def test_the_name_is_case_insensitive(hop: Hop, name: str) -> None:
    assert hop.goes_on(GOOD, name)


@pytest.mark.parametrize("name", ["trace-parent", "trace.parent", "x-traceparent"])
def test_other_names_are_not_traceparent(hop: Hop, name: str) -> None:
    assert not hop.goes_on(GOOD, name)


@pytest.mark.parametrize(
    "padded", [f" {GOOD}", f"\t{GOOD}", f"{GOOD} ", f"{GOOD}\t", f" \t{GOOD} \t"]
)
def test_optional_white_space_around_it(hop: Hop, padded: str) -> None:
    assert hop.goes_on(padded)


@pytest.mark.parametrize(
    "traceparent",
    [
        # version
        f".0-{TRACE}-{PARENT}-01",
        f"0.-{TRACE}-{PARENT}-01",
        f"0-{TRACE}-{PARENT}-01",
        f"000-{TRACE}-{PARENT}-01",
        f"0x-{TRACE}-{PARENT}-01",
        f"ff-{TRACE}-{PARENT}-01",
        f"FF-{TRACE}-{PARENT}-01",
        # version 00 has four fields
        f"{GOOD}.",
        f"{GOOD}-",
        f"{GOOD}-what-the-future-will-be-like",
        # trace-id
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}0-{PARENT}-01",
        f"00-.{TRACE[1:]}-{PARENT}-01",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE[:-1]}\xb2-{PARENT}-01",
        # parent-id
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT[:-1]}-01",
        f"00-{TRACE}-{PARENT}1-01",
        f"00-{TRACE}-.{PARENT[1:]}-01",
        f"00-{TRACE}-{PARENT.upper()}-01",
        # trace-flags
        f"00-{TRACE}-{PARENT}-.0",
        f"00-{TRACE}-{PARENT}-0.",
        f"00-{TRACE}-{PARENT}-0",
        f"00-{TRACE}-{PARENT}-001",
        f"00-{TRACE}-{PARENT}-0A",
        # no fields at all
        "",
        "-",
        "00",
        f"00-{TRACE}",
        f"00 {TRACE} {PARENT} 01",
        f'"{GOOD}"',
        "00" + "-0" * 5000,
    ],
)
def test_a_malformed_traceparent_starts_a_new_trace(hop: Hop, traceparent: str) -> None:
    assert not hop.goes_on(traceparent)


@pytest.mark.parametrize(
    ("traceparent", "continued"),
    [
        (f"cc-{TRACE}-{PARENT}-01", True),
        (f"cc-{TRACE}-{PARENT}-01-what-the-future-will-be-like", True),
        (f"01-{TRACE}-{PARENT}-01-", True),
        (f"cc-{TRACE}-{PARENT}-01.what-the-future-will-not-be-like", False),
        (f"cc-{TRACE}-{PARENT}-012", False),
        (f"cc-{'0' * 32}-{PARENT}-01", False),
    ],
)
def test_future_versions_are_read_as_far_as_they_are_known(
    hop: Hop, traceparent: str, continued: bool
) -> None:
    assert hop.goes_on(traceparent) is continued


@pytest.mark.parametrize("second", [GOOD, f"00-{TRACE}-{PARENT}-00", f"00-{'1' * 32}-{PARENT}-01"])
def test_two_traceparents_are_none(hop: Hop, second: str) -> None:
    trace_id, _, _ = hop.traceparent([("traceparent", GOOD), ("traceparent", second)])
    assert trace_id not in {TRACE, "1" * 32}


@pytest.mark.parametrize(
    ("received", "sent"),
    [("00", 0), ("01", 1), ("02", 2), ("03", 3), ("ff", 3), ("fc", 0), ("05", 1)],
)
def test_flags_are_bits_and_unknown_ones_are_cleared(hop: Hop, received: str, sent: int) -> None:
    headers = [("traceparent", f"00-{TRACE}-{PARENT}-{received}")]
    trace_id, _, flags = hop.traceparent(headers)
    assert trace_id == TRACE
    assert flags == sent


@pytest.mark.parametrize("incoming", [[], [("traceparent", GOOD)], [("traceparent", "nonsense")]])
def test_every_call_has_a_parent_id_of_its_own(hop: Hop, incoming: Headers) -> None:
    found = [SENT.fullmatch(c["traceparent"]) for c in hop.headers(incoming, times=3)]
    matches = [match for match in found if match is not None]
    assert len({match[1] for match in matches}) == 1
    assert len({match[2] for match in matches}) == 3
    assert (matches[0][1] == TRACE) is (incoming == [("traceparent", GOOD)])


# 3.3 tracestate


def test_tracestate_is_passed_on(hop: Hop) -> None:
    assert hop.state("foo=1,bar=2") == "foo=1,bar=2"


@pytest.mark.parametrize("name", ["Tracestate", "TraceState", "TRACESTATE"])
def test_the_name_of_tracestate_is_case_insensitive(hop: Hop, name: str) -> None:
    assert hop.state("foo=1", name=name) == "foo=1"


@pytest.mark.parametrize("name", ["trace-state", "x-tracestate"])
def test_other_names_are_not_tracestate(hop: Hop, name: str) -> None:
    assert hop.state("foo=1", name=name) is None


@pytest.mark.parametrize("traceparent", [None, "nonsense", f"00-{TRACE}-{'0' * 16}-01"])
def test_tracestate_means_nothing_without_a_valid_traceparent(
    hop: Hop, traceparent: str | None
) -> None:
    headers = [("tracestate", "foo=1")]
    if traceparent is not None:
        headers.append(("traceparent", traceparent))
    assert "tracestate" not in hop.headers(headers)[0]


def test_several_fields_are_one_list_in_order(hop: Hop) -> None:
    assert hop.state("foo=1,bar=2", "rojo=1", "congo=2,baz=3") == "foo=1,bar=2,rojo=1,congo=2,baz=3"


@pytest.mark.parametrize("fields", [("",), ("", "foo=1"), ("foo=1", ""), ("foo=1,,", " ,\t")])
def test_empty_members_are_allowed(hop: Hop, fields: tuple[str, ...]) -> None:
    assert hop.state(*fields) == ("foo=1" if "foo=1" in "".join(fields) else None)


@pytest.mark.parametrize(
    "tracestate",
    [
        "foo=1 \t , \t bar=2, \t baz=3",
        "foo=1\t \t,\t \tbar=2,\t \tbaz=3",
        " \tfoo=1,bar=2,baz=3 \t",
    ],
)
def test_optional_white_space_around_members(hop: Hop, tracestate: str) -> None:
    assert hop.state(tracestate) == "foo=1,bar=2,baz=3"


@pytest.mark.parametrize(
    ("fields", "sent"),
    [
        (("foo=1,foo=1",), "foo=1"),
        (("foo=1,foo=2",), "foo=1"),
        (("foo=1", "foo=2"), "foo=1"),
        (("foo=1,bar=3", "foo=2"), "foo=1,bar=3"),
    ],
)
def test_of_a_doubled_key_one_member_stays(hop: Hop, fields: tuple[str, ...], sent: str) -> None:
    assert hop.state(*fields) == sent


@pytest.mark.parametrize(
    "key",
    [
        "abcdefghijklmnopqrstuvwxyz0123456789_-*/",
        "0123456789_-*/abc@a-z0-9_-*/",
        "0",
        "foo@",
        "foo@@bar",
        "foo@bar@baz",
        "z" * 256,
        "t" * 241 + "@" + "v" * 14,
        "t" * 242 + "@v",
        "t@" + "v" * 15,
    ],
)
def test_legal_keys(hop: Hop, key: str) -> None:
    assert hop.state(f"{key}=1,bar=2") == f"{key}=1,bar=2"


@pytest.mark.parametrize(
    "key", ["", "@foo", "_foo", "-foo", "FOO", "foo ", "foo.bar", "f\xf6o", "z" * 257, "fo o"]
)
def test_one_illegal_key_discards_the_list(hop: Hop, key: str) -> None:
    assert hop.state(f"bar=2,{key}=1") is None


@pytest.mark.parametrize(
    "value",
    [
        "".join(map(chr, [*range(0x20, 0x2C), *range(0x2D, 0x3D), *range(0x3E, 0x7F)])),
        "v" * 256,
        "a b",
    ],
)
def test_legal_values(hop: Hop, value: str) -> None:
    assert hop.state(f"bar=2,foo={value}") == f"bar=2,foo={value}"


@pytest.mark.parametrize("value", ["", "bar=baz", "v" * 257, "\xf6", "a\tb"])
def test_one_illegal_value_discards_the_list(hop: Hop, value: str) -> None:
    assert hop.state(f"bar=2,foo={value}") is None


def test_a_member_without_an_equals_sign_discards_the_list(hop: Hop) -> None:
    assert hop.state("bar=2,foo") is None


def test_thirty_two_members_at_most(hop: Hop) -> None:
    members = [f"bar{number:02}={number:02}" for number in range(33)]
    assert hop.state(",".join(members[:10]), ",".join(members[10:32])) == ",".join(members[:32])
    assert hop.state(",".join(members)) is None


def test_longer_lists_than_the_512_characters_that_must_go_on_are_bounded(hop: Hop) -> None:
    state = ",".join(f"k{number}={'v' * 200}" for number in range(32))
    assert 512 < len(state) < 8192
    assert hop.state(state) == state
    assert hop.state(",".join(f"k{number}={'v' * 256}" for number in range(32))) is None


def test_nothing_of_this_is_logged(hop: Hop, caplog: pytest.LogCaptureFixture) -> None:
    for state in ("foo=1,foo=2", "@", "foo@@bar=1", "x" * 9000):
        hop.state(state)
    hop.goes_on("nonsense")
    assert [record for record in caplog.records if "opentelemetry" in record.name] == []
