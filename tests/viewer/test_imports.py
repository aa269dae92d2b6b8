"""Files of OTLP, Jaeger and Zipkin JSON: read, dropped on a page, refused when malformed."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from flask_bodytrace.viewer import otlp_writer
from flask_bodytrace.viewer.imports import spans_from_file
from flask_bodytrace.viewer.model import Span
from flask_bodytrace.viewer.otlp import BadRequest
from tests.viewer.running import RunningViewer as Viewer

if TYPE_CHECKING:
    from playwright.sync_api import Page

# As Jaeger's UI writes them (its "Trace JSON"), and Zipkin's ("Download JSON").
JAEGER: Any = {
    "data": [
        {
            "traceID": "abc",
            "spans": [
                {
                    "traceID": "abc", "spanID": "1", "operationName": "POST /orders",
                    "references": [], "startTime": 1_700_000_000_000_000, "duration": 30_000,
                    "tags": [
                        {"key": "span.kind", "type": "string", "value": "server"},
                        {"key": "http.response.status_code", "type": "int64", "value": 500},
                        {"key": "error", "type": "bool", "value": True},
                        {"key": "otel.status_description", "type": "string", "value": "lost"},
                        {"key": "otel.scope.name", "type": "string", "value": "lib"},
                    ],
                    "logs": [
                        {
                            "timestamp": 1_700_000_000_001_000,
                            "fields": [
                                {"key": "event", "type": "string", "value": "exception"},
                                {"key": "exception.type", "type": "string", "value": "Lost"},
                            ],
                        }
                    ],
                    "processID": "p1", "warnings": None,
                },
                {
                    "traceID": "abc", "spanID": "2", "operationName": "SELECT",
                    "references": [
                        {"refType": "CHILD_OF", "traceID": "abc", "spanID": "1"},
                        {"refType": "FOLLOWS_FROM", "traceID": "def", "spanID": "9"},
                    ],
                    "startTime": 1_700_000_000_002_000, "duration": 5_000, "tags": [], "logs": [],
                    "processID": "p2",
                },
            ],
            "processes": {
                "p1": {"serviceName": "shop", "tags": [{"key": "host.name", "value": "h1"}]},
                "p2": {"serviceName": "stock", "tags": []},
            },
        }
    ],
    "total": 0, "errors": None,
}  # fmt: skip
ZIPKIN: Any = [
    {
        "traceId": "000000000000abcd", "id": "0000000000000001", "name": "post /orders",
        "kind": "CLIENT", "timestamp": 1_700_000_000_000_000, "duration": 30_000,
        "localEndpoint": {"serviceName": "shop", "ipv4": "10.0.0.1"},
        "remoteEndpoint": {"serviceName": "orders", "port": 8000},
        "tags": {"order.id": "ORD1", "error": "500"},
        "annotations": [{"timestamp": 1_700_000_000_001_000, "value": "retry"}],
    },
    {
        "traceId": "000000000000abcd", "id": "0000000000000001", "kind": "SERVER", "shared": True,
        "name": "post /orders", "timestamp": 1_700_000_000_002_000, "duration": 20_000,
        "localEndpoint": {"serviceName": "orders"},
    },
    {
        "traceId": "000000000000abcd", "parentId": "0000000000000001", "id": "0000000000000002",
        "timestamp": 1_700_000_000_003_000, "localEndpoint": {"serviceName": "orders"},
    },
]  # fmt: skip


def test_jaeger() -> None:
    first, second = spans_from_file(json.dumps(JAEGER).encode())
    assert (first.trace_id, first.span_id) == ("0" * 29 + "abc", "0" * 15 + "1")
    assert (first.service, first.name, first.kind, first.scope) == (
        "shop",
        "POST /orders",
        2,
        "lib",
    )
    assert (first.status, first.status_message) == (2, "lost")
    assert (first.start, first.duration) == (17 * 10**17, 30 * 10**6)
    assert first.attributes == {"http.response.status_code": 500, "error": True}
    assert first.resource == {"service.name": "shop", "host.name": "h1"}
    assert [(e.name, e.attributes) for e in first.events] == [
        ("exception", {"exception.type": "Lost"})
    ]
    assert second.parent_id == first.span_id
    assert [(x.trace_id, x.span_id) for x in second.links] == [("0" * 29 + "def", "0" * 15 + "9")]


def test_zipkin_gives_a_shared_span_an_id_of_its_own() -> None:
    client, served, inner = spans_from_file(json.dumps(ZIPKIN).encode())
    assert (client.trace_id, client.kind, client.service) == ("0" * 28 + "abcd", 3, "shop")
    assert (client.status, client.status_message) == (2, "500")
    assert client.attributes["server.address"] == "orders"
    assert [event.name for event in client.events] == ["retry"]
    assert served.span_id != client.span_id
    assert served.parent_id == client.span_id
    assert (served.kind, served.service) == (2, "orders")
    assert inner.parent_id == client.span_id
    # Lists of traces, as Zipkin's search answers, too.
    assert spans_from_file(json.dumps([ZIPKIN, ZIPKIN[:1]]).encode())[:3] == [client, served, inner]


def test_otlp_as_one_request_or_one_a_line(make_span: Callable[..., Span]) -> None:
    spans = [make_span(id=1, attributes={"order.id": "ORD1"}), make_span(id=2, parent=1)]
    text = otlp_writer.to_json(spans)
    found = spans_from_file(text.encode())
    assert [span.span_id for span in found] == [span.span_id for span in spans]
    line = json.dumps(json.loads(text))
    assert len(spans_from_file(f"{line}\n{line}\n\n".encode())) == 4
    with pytest.raises(BadRequest, match=r"^line 2: "):
        spans_from_file(f"{line}\n{{broken\n".encode())


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no JSON"),
        (b"<html>", "no JSON"),
        (b"{}", "neither"),
        (b'{"data": [{"spans": [{"traceID": "zz", "spanID": "1"}]}]}', "'zz'"),
        (b'{"data": [{"spans": [{"spanID": "1"}]}]}', "traceID"),
        (b'{"data": 5}', "array"),
        (b'[{"traceId": "1"}]', "id"),
        (b'[{"traceId": "1", "id": "0"}]', "'0'"),
        (b"[5]", "object"),
        (b'[{"traceId": "1", "id": "1", "timestamp": -1}]', "a timestamp that is no time"),
        (b'[{"traceId": "1", "id": "1", "timestamp": %d}]' % 2**64, "a timestamp that is no time"),
        (b'[{"traceId": "1", "id": "1", "duration": %d}]' % 2**64, "a timestamp and duration"),
        (
            b'[{"traceId": "1", "id": "1", "annotations": [{"timestamp": %d}]}]' % 2**200,
            "an annotation's timestamp",
        ),
        (
            b'{"data": [{"spans": [{"traceID": "1", "spanID": "1", "startTime": %d}]}]}' % 2**200,
            "a startTime that is no time",
        ),
        # Python 3.14 counts bytes of its stack, not calls.
        (b"[" * 100_000, "ecursion|Stack overflow"),
    ],
)
def test_what_is_malformed_is_named(data: bytes, problem: str) -> None:
    with pytest.raises(BadRequest, match=problem):
        spans_from_file(data)


@pytest.mark.parametrize("value", [[], {}, ["true"], None, 0, "false"])
def test_a_tag_of_jaegers_may_be_anything(value: Any) -> None:
    tags = [{"key": "error", "value": value}, {"key": "other", "value": value}]
    spans = [{"traceID": "1", "spanID": "1", "tags": tags}]
    (span,) = spans_from_file(json.dumps({"data": [{"spans": spans}]}).encode())
    assert (span.failed, span.attributes["other"]) == (False, value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["data", "spans", "traceID", "spanID", "traceId", "id", "tags"]),
                inner,
                max_size=3,
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_read_or_refused(value: Any) -> None:
    for wrapped in (value, {"data": value}, {"data": [{"spans": value}]}, [value]):
        with suppress(BadRequest):
            spans_from_file(json.dumps(wrapped).encode())


def test_a_file_is_dropped_or_chosen(viewer: Viewer, page: Page, tmp_path: Path) -> None:
    page.goto(f"{viewer.url}/map")
    page.evaluate(
        """(text) => {
             const bag = new DataTransfer();
             bag.items.add(new File([text], "trace.json", { type: "application/json" }));
             document.body.dispatchEvent(
               new DragEvent("drop", { dataTransfer: bag, bubbles: true, cancelable: true }));
           }""",
        json.dumps(JAEGER),
    )
    page.wait_for_url(f"**/trace/{'0' * 29}abc")
    assert page.locator(".rows li").count() == 2
    file = tmp_path / "zipkin.json"
    file.write_text(json.dumps(ZIPKIN), "utf-8")
    page.goto(viewer.url)
    page.set_input_files("[data-import-file]", file)
    page.wait_for_url(f"**/trace/{'0' * 28}abcd")
    assert page.locator(".rows li").count() == 3


def test_a_file_that_is_none_is_refused_in_words(viewer: Viewer, browser: Any) -> None:
    page = browser.new_context().new_page()
    page.goto(viewer.url)
    page.set_input_files(
        "[data-import-file]",
        [{"name": "x.json", "mimeType": "application/json", "buffer": b"no"}],
    )
    page.wait_for_selector(".told:has-text('x.json: no JSON')")
    page.context.close()


def test_another_site_s_page_cannot_import(viewer: Viewer) -> None:
    url = f"{viewer.url}/import"
    text = json.dumps(ZIPKIN)
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        headers = {"Content-Type": kind}
        assert requests.post(url, data=text, headers=headers, timeout=10).status_code == 415
    assert requests.get(url, timeout=10).status_code == 405
    assert len(viewer.store) == 0


def test_a_selection_is_exported_and_comes_back_the_same(
    viewer: Viewer, page: Page, make_span: Callable[..., Span]
) -> None:
    for trace in range(1, 6):
        attributes = {"order.id": f"ORD{trace % 2}"}
        viewer.store.add([make_span(trace=trace, name="POST /orders", attributes=attributes)])
    page.goto(f"{viewer.url}/?q=order.id%3DORD1")
    with page.expect_download() as download:
        page.click("text=Export as JSON")
    text = Path(download.value.path()).read_bytes()
    assert {int(span.trace_id, 16) for span in spans_from_file(text)} == {1, 3, 5}
