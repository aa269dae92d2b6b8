"""What services say of their calls is untrusted: whatever it is, a bounded tree comes of it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from flask_bodytrace.calls.call import KINDS, Call
from flask_bodytrace.calls.tree import MAX_DEPTH, adopt, answer, rebuild
from flask_bodytrace.calls.wire import MAX_CALLS, fit, read_calls
from flask_bodytrace.trace import headers
from flask_bodytrace.trace.headers import parse, timings

TRACE = "0af7651916cd43dd8448eb211c80319c"
# Few of them, so that doubles and circles are common.
span_ids = st.integers(1, 12).map(lambda number: f"{number:016x}")
maybe_ids = st.none() | span_ids
texts = st.text(max_size=40)
milliseconds = st.none() | st.floats(0, 1e6)
calls = st.builds(
    Call,
    name=texts,
    service=texts,
    kind=st.sampled_from(sorted(KINDS.values())),
    status=st.sampled_from(["", "200", "503", "ReadTimeout"]),
    span_id=maybe_ids,
    parent_span_id=maybe_ids,
    milliseconds=milliseconds,
    start=milliseconds,
    more=st.integers(0, 5),
)


def tree(parents: list[int], kinds: list[str]) -> Call:
    """Call n is below the call that `parents` names for it, modulo those before it."""
    made = [Call("GET /<id>", "orders", "server", "200", TRACE, f"{1:016x}")]
    for number, (parent, kind) in enumerate(zip(parents, kinds, strict=False), 2):
        call = Call("call", "service", kind, span_id=f"{number:016x}", start=float(number))
        adopt(made[parent % len(made)], call)
        made.append(call)
    return made[0]


trees = st.builds(
    tree,
    st.lists(st.integers(0, 1000), max_size=30),
    st.lists(st.sampled_from(sorted(KINDS.values())), min_size=30, max_size=30),
)


def depth(call: Call) -> int:
    levels, row = 0, [call]
    while row := [child for each in row for child in each.children]:
        levels += 1
    return levels


def edges(call: Call) -> set[tuple[str | None, str | None]]:
    return {(above.span_id, below.span_id) for above in call.walk() for below in above.children}


@given(st.lists(calls, max_size=40), st.sets(span_ids, max_size=3))
def test_circles_and_doubles_make_a_tree_of_everything_once(
    given_calls: list[Call], taken: set[str]
) -> None:
    root = Call("root", span_id=f"{1:016x}", trace_id=TRACE)
    rebuild(root, given_calls, taken - {str(root.span_id)})
    placed = list(root.walk())
    assert max(Counter(map(id, placed)).values()) == 1
    named = Counter(call.span_id for call in placed if call.span_id is not None)
    assert max(named.values()) == 1
    expected = {call.span_id for call in given_calls if call.span_id} - taken | {root.span_id}
    assert set(named) == expected
    unnamed = sum(call.span_id is None for call in given_calls)
    assert len(placed) == len(named) + unnamed
    assert {call.trace_id for call in placed} == {TRACE}
    for above in placed:
        assert all(below.parent_span_id == above.span_id for below in above.children)


def test_a_circle_alone_is_shown_once() -> None:
    root = Call("root", span_id=f"{1:016x}")
    circle = [
        Call(str(n), span_id=f"{n + 2:016x}", parent_span_id=f"{(n + 1) % 3 + 2:016x}")
        for n in range(3)
    ]
    rebuild(root, [*circle, *circle])
    assert len(list(root.walk())) == 4
    assert root.children[0].via


def test_deep_chains_are_cut_and_counted() -> None:
    root = Call("root", span_id=f"{1:016x}")
    rebuild(
        root,
        [Call("x", span_id=f"{n:016x}", parent_span_id=f"{n - 1:016x}") for n in range(2, 200)],
    )
    assert depth(root) == MAX_DEPTH
    placed = list(root.walk())
    assert len(placed) + sum(call.more for call in placed) == 199
    assert not any(call.via for call in placed)


@given(trees, st.integers(0, 3000))
# T17
def test_what_fits_is_a_true_part_and_the_rest_is_counted(root: Call, size: int) -> None:
    everything = list(root.walk())
    entries = fit(root, size)
    assert sum(map(len, entries)) + 2 * len(entries) <= max(size, 0)
    found, more = read_calls([("Server-Timing", ", ".join(entries))])
    again = Call("root", span_id=root.span_id, more=more)
    rebuild(again, found)
    assert edges(again) <= edges(root)
    assert not any(call.via for call in again.walk())
    if found:
        assert len(found) + sum(call.more for call in again.walk()) == len(everything)
    elif entries:
        assert more == len(everything)
    if len(found) < len(everything) and entries:
        assert any(call.more for call in again.walk())


@given(trees)
def test_with_room_everything_comes_back(root: Call) -> None:
    found, more = read_calls([("server-timing", ", ".join(fit(root, 100_000)))])
    again = Call("?", span_id=root.span_id)
    rebuild(again, found)
    assert more == 0
    assert edges(again) == edges(root)
    shown = [(call.name, call.service, call.kind, call.status, call.start) for call in again.walk()]
    assert (
        shown[1:]
        == [(call.name, call.service, call.kind, call.status, call.start) for call in root.walk()][
            1:
        ]
    )


@given(texts, texts)
def test_any_name_survives_any_parser(name: str, service: str) -> None:
    root = Call(name, service, "server", "200", TRACE, f"{1:016x}")
    (entry,) = fit(root, 10_000)
    assert entry.isascii()
    # Even one that splits at commas and semicolons without a look at quotes.
    assert "," not in entry
    assert entry.count('"') == 2
    assert entry.count(";") == 1
    (call,), _ = read_calls([("Server-Timing", f'db;desc="a, {entry[:9]}", {entry}')])
    shown = "".join(c if c.isprintable() else "?" for c in name)
    if all(c < "\ud800" or c > "\udfff" for c in name + service) and len(name) < 14:
        assert call.name == shown
    assert call.name.isprintable()
    assert call.service.isprintable()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Server-Timing", "X-Trace-ID", "X-Span-ID", "traceresponse"]),
            st.text(max_size=200)
            | st.text('call;=", -0123456789abcdef S\\', max_size=200)
            | st.just(f"call;desc={'x' * 20000}"),
        ),
        max_size=6,
    )
)
def test_no_header_does_harm(headers: list[tuple[str, str]]) -> None:
    parse(headers)
    found, more = read_calls(headers)
    assert len(found) <= MAX_CALLS
    assert more >= 0
    call = Call("GET /", kind="client", trace_id=TRACE, span_id=f"{1:016x}")
    answer(call, headers, 200, 1)
    for each in call.walk():
        assert each.name.isprintable()


@given(st.text(max_size=300))
def test_any_server_timing_is_read_to_its_end(text: str) -> None:
    marker = 'last;desc="here"'
    assert list(timings(f"{text}, {marker}"))[-1:] == [("last", {"desc": "here"})] or '"' in text


def test_the_server_timing_of_a_response_is_parsed_once() -> None:
    before = headers._timings.cache_info().misses
    call = Call("GET /", kind="client", trace_id=TRACE, span_id=f"{1:016x}")
    timing = f'traceparent;desc="00-{TRACE}-{2:016x}-01", {entry(f"{3:016x}", f"{2:016x}")}'
    answer(call, [("Server-Timing", timing)], 200, 1)
    assert [each.name for each in call.walk()] == ["GET /", "GET /", "x"]
    assert headers._timings.cache_info().misses == before + 1


def entry(span: str, parent: str, name: str = "x") -> str:
    return f'call;dur=1;desc="{span} {parent} S200 evil {name}"'


def test_more_than_the_limit_is_counted() -> None:
    ids = [f"{number:016x}" for number in range(1, MAX_CALLS + 40)]
    headers = [("Server-Timing", ", ".join(f'call;desc="{i} - I - x"' for i in ids))]
    found, more = read_calls(headers)
    assert (len(found), len(found) + more) == (MAX_CALLS, len(ids))


def response(trace_id: str, span_id: str, *entries: str) -> list[tuple[str, str]]:
    return [
        ("X-Trace-ID", trace_id),
        ("X-Span-ID", span_id),
        ("Server-Timing", ", ".join(entries)),
    ]


def test_a_service_speaks_only_of_what_is_below_it() -> None:
    mine, asked, other = "a" * 16, "b" * 16, "c" * 16
    call = Call("GET /", kind="client", trace_id=TRACE, span_id=asked)
    headers = response(
        TRACE,
        mine,
        entry(mine, asked, "itself"),
        # As the caller's own span, below another service's, above the caller's.
        entry(asked, "-", "the caller"),
        entry("d" * 16, other, "below another"),
        entry("e" * 16, mine, "below itself"),
    )
    answer(call, headers, 200, int(asked, 16))
    (server,) = call.children
    assert [each.name for each in server.children] == ["below itself", "below another"]
    assert [each.via for each in server.children] == [False, True]
    assert call.name == "GET /"
    assert all(each.span_id != asked for each in server.walk())


def test_our_own_span_sent_back_is_no_answer() -> None:
    asked = "b" * 16
    call = Call("GET /", kind="client", trace_id=TRACE, span_id=asked)
    answer(call, response(TRACE, asked, entry("c" * 16, asked)), 200, int(asked, 16))
    assert call.children == []


def test_malformed_entries_are_left_out() -> None:
    good = entry("1" * 16, "2" * 16)
    bad: list[Any] = [
        entry("0" * 16, "2" * 16),
        entry("1" * 16, "0" * 16),
        entry("X" * 16, "2" * 16),
        entry("1" * 15, "2" * 16),
        good.replace("S200", "Z200"),
        good.replace("S200", "S<b>"),
        good.replace("call", "calls"),
        'call;desc=""',
    ]
    found, more = read_calls([("Server-Timing", ", ".join([*bad, good]))])
    assert ([call.span_id for call in found], more) == (["1" * 16], 0)
    for number in ("-1", "1e9", "nan", "inf", "9" * 40, "0x1", ""):
        (call,), _ = read_calls([("Server-Timing", good.replace("dur=1", f"dur={number}"))])
        assert call.milliseconds is None


def test_the_documented_example_is_what_is_read() -> None:
    page = (Path(__file__).parents[2] / "docs" / "calltree.md").read_text(encoding="utf-8")
    example = page.partition("Server-Timing: call")[2].partition("```")[0]
    found, _ = read_calls([("Server-Timing", " ".join(f"call{example}".split()))])
    root = Call("?", span_id=found[0].span_id)
    rebuild(root, found)
    assert [call.name for call in root.children] == [
        "PUT /stock/<sku>",
        "GET http://mail.example/send",
    ]
    assert [call.failed for call in root.children] == [False, True]
