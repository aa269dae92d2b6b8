"""Whatever Flask's own parser reads, ids are found in; what nobody could read is said."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_bodytrace.ids.value import id_text

EXAMPLES = 10_000 if os.environ.get("BODYTRACE_SOAK") else 200
DOCUMENT = '{"orderId": "ORD1", "rest": %s}'


@pytest.fixture
def app(make_app: Callable[..., Flask]) -> Flask:
    app = make_app(ids="order.id=orderId", id_scan_limit=4096)

    @app.post("/")
    def view() -> dict[str, Any]:
        return {"flask": request.get_json()["orderId"]}

    return app


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (DOCUMENT % "NaN", {}),
        (DOCUMENT % "[Infinity, -Infinity]", {}),
        (DOCUMENT % '"\\ud800"', {}),
        (DOCUMENT % "1", {"Content-Encoding": "identity"}),
        (DOCUMENT % "1", {"Content-Encoding": " Identity "}),
        ("\ufeff" + DOCUMENT % "1", {}),
        ((DOCUMENT % "1").encode("utf-16"), {}),
        ((DOCUMENT % "1").encode("utf-16-le"), {}),
        ((DOCUMENT % "1").encode("utf-32"), {}),
        (DOCUMENT % ("9" * 400), {}),
        (DOCUMENT % ("[" * 300 + "]" * 300), {}),
        ('{"orderId": "ORD0", "orderId": "ORD1"}', {}),
    ],
    ids=[
        *("nan", "infinity", "surrogate", "identity", "Identity", "bom", "utf-16", "utf-16-le"),
        *("utf-32", "huge", "deep", "doubled"),
    ],
)
def test_what_flask_reads_has_its_id_on_the_span(
    app: Flask, spans: Any, body: str | bytes, headers: dict[str, str]
) -> None:
    answer = app.test_client().post(
        "/", data=body, headers=headers, content_type="application/json"
    )
    assert answer.json == {"flask": "ORD1"}
    attributes = spans.server().attributes
    assert attributes["order.id"] == "ORD1"
    assert "bodytrace.ids.unread" not in attributes


@pytest.mark.parametrize(
    ("body", "headers", "reason"),
    [
        (DOCUMENT % "1" + " " * 5000, {}, "too_large"),
        (DOCUMENT % "1", {"Content-Encoding": "gzip"}, "encoded"),
        ("{", {}, "unparsed"),
        ("[" * 200_000, {}, "too_large"),
    ],
    ids=["padded", "gzip", "malformed", "large"],
)
def test_what_is_not_searched_is_said_on_the_span(
    app: Flask, spans: Any, body: str, headers: dict[str, str], reason: str
) -> None:
    app.add_url_rule("/any", view_func=lambda: "", methods=["POST"])
    app.test_client().post("/any", data=body, headers=headers, content_type="application/json")
    attributes = spans.server().attributes
    assert attributes["bodytrace.ids.unread"] == reason
    assert "order.id" not in attributes


@pytest.mark.parametrize(
    "charset", ["", "utf-8", "UTF-8", "us-ascii", "iso-8859-1", "latin-1", "utf-16", "none-such"]
)
def test_a_charset_hides_no_field_from_the_trace(
    make_app: Callable[..., Flask], spans: Any, charset: str
) -> None:
    """Flask reads each part, whatever it says of its charset."""
    app = make_app(ids="order.id=orderId")
    app.add_url_rule("/", view_func=lambda: request.form["orderId"], methods=["POST"])
    body = (
        '--X\r\nContent-Disposition: form-data; name="orderId"\r\n'
        f"Content-Type: text/plain; charset={charset}\r\n\r\nORD\u00e9\r\n--X--\r\n"
    )
    answer = app.test_client().post(
        "/", data=body.encode(), content_type="multipart/form-data; boundary=X"
    )
    found = spans.server().attributes.get("order.id")
    if charset != "us-ascii":
        assert found == answer.text
    else:
        # What is not even text in Flask is no id.
        assert (answer.text, found) == ("ORD\ufffd\ufffd", None)


@pytest.mark.parametrize("value", ["ORD1%FF", "%E2%98", "ORD%E2%98%83", "x%C3%28", "%", "%zz"])
def test_an_escape_hides_no_field_from_the_trace(
    make_app: Callable[..., Flask], spans: Any, value: str
) -> None:
    """Flask leaves escapes that are no UTF-8 as they are."""
    app = make_app(ids="order.id=orderId,user.id=query:user")
    app.add_url_rule(
        "/",
        view_func=lambda: [request.form["orderId"], request.args["user"]],
        methods=["POST"],
    )
    form = "application/x-www-form-urlencoded"
    answer = app.test_client().post(f"/?user={value}", data=f"orderId={value}", content_type=form)
    attributes = spans.server().attributes
    assert [attributes.get("order.id"), attributes.get("user.id")] == answer.json


def test_a_form_that_is_no_text_is_said_on_the_span(
    make_app: Callable[..., Flask], spans: Any
) -> None:
    app = make_app(ids="order.id=orderId")
    app.add_url_rule("/", view_func=lambda: dict(request.form), methods=["POST"])
    form = "application/x-www-form-urlencoded"
    answer = app.test_client().post("/", data=b"orderId=1&x=\xff", content_type=form)
    # Werkzeug 3.0.0 answers 413.
    assert not answer.json
    assert spans.server().attributes["bodytrace.ids.unread"] == "unparsed"
    assert "order.id" not in spans.server().attributes


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
documents = st.dictionaries(
    st.sampled_from(["orderId", "rest", "other", "\u00e9"]),
    st.recursive(leaves, lambda inner: st.lists(inner, max_size=3), max_leaves=6),
    max_size=4,
)
encodings = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """A document in some encoding, now and then cut off."""
    text = json.dumps(draw(documents), ensure_ascii=draw(st.booleans()))
    body = text.encode(draw(encodings), "surrogatepass")
    cut = draw(st.integers(0, 40))
    return body[: len(body) - cut] if cut % 4 == 0 else body


@given(body=bodies())
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_ids_are_those_of_flasks_parser(app: Flask, spans: Any, body: bytes) -> None:
    spans.clear()
    app.view_functions["view"] = lambda: {"parsed": request.get_json(silent=True) is not None}
    answer: Any = app.test_client().post("/", data=body, content_type="application/json")
    attributes = spans.server().attributes
    try:
        parsed = json.loads(body)
    except ValueError:
        parsed = None
    expected = id_text(parsed.get("orderId")) if isinstance(parsed, dict) else None
    if answer.json["parsed"]:
        assert attributes.get("order.id") == expected
