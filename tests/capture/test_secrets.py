"""No secret in what is captured: a corpus of kinds of secrets, in every kind of body."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import REDACTED, Redactor

from .corpus import FORMED, NAMED, SECRET, bodies

CAPTURE = BodyCapture(1 << 16, Redactor())

KINDS = list(bodies("a", "b"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMED)
def test_no_value_of_a_secret_name_shows(name: str, kind: str) -> None:
    data, content_type = bodies(name, SECRET)[kind]
    shown = CAPTURE.content(data, content_type)
    assert SECRET not in (shown or "")
    if kind in {"json", "form", "xml", "lines"}:
        # The rest shows.
        assert shown is not None
        assert REDACTED in shown
        assert ("c=d" if kind == "form" else "ORD1") in shown


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", FORMED)
def test_nothing_shows_that_is_secret_by_its_form(form: str, kind: str) -> None:
    value, secret = FORMED[form]
    data, content_type = bodies("remark", value)[kind]
    assert secret not in (CAPTURE.content(data, content_type) or "")


@pytest.mark.parametrize("form", FORMED)
def test_nothing_shows_of_a_secret_that_is_a_name_or_stands_in_a_list(form: str) -> None:
    value, secret = FORMED[form]
    for document in ({value: 1}, [value], {"a": ["b", value]}, {"a": {"b": [[value]]}}):
        shown = CAPTURE.content(json.dumps(document).encode(), "application/json")
        assert secret not in (shown or "")


PAIRS: list[Any] = [
    {"name": "password", "value": SECRET},
    {"Key": "api_key", "Value": SECRET},
    {"field": "pin", "label": "PIN", "value": [SECRET]},
    {"value": SECRET, "name": "password"},
    ["Authorization", SECRET],
    [["a", "b"], ["Set-Cookie", SECRET]],
    ["Host", "shop", "Cookie", SECRET],
]


@pytest.mark.parametrize("document", PAIRS, ids=json.dumps)
def test_a_name_and_its_value_may_be_two_values(document: Any) -> None:
    text = json.dumps({"pairs": [document], "last": 1})
    for data in (text, json.dumps({"a": text}), text[:-1]):
        shown = CAPTURE.content(data.encode(), "application/json")
        assert shown is not None
        assert SECRET not in shown
    if isinstance(document, dict) and isinstance(document.get("value"), str):
        form = urlencode(document).encode()
        shown = CAPTURE.content(form, "application/x-www-form-urlencoded")
        assert shown is not None
        assert SECRET not in shown


@pytest.mark.parametrize("form", FORMED)
@pytest.mark.parametrize("kind", ["json", "json, broken", "json, as text", "json in json", "xml"])
def test_no_part_of_a_secret_shows_where_the_limit_cuts(form: str, kind: str) -> None:
    value, _ = FORMED[form]
    value = f"see {value} there"
    data, content_type = bodies("remark", value)[kind]
    whole = CAPTURE.content(data, content_type)
    assert whole is not None
    for limit in range(0, len(whole) + 1, 3):
        shown = BodyCapture(limit, Redactor()).shown(data, content_type)
        assert shown is not None
        assert len(shown.text.encode()) <= limit
        assert shown.is_cut == (shown.text != whole)
        assert whole.startswith(shown.text)


@pytest.mark.parametrize("form", FORMED)
@pytest.mark.parametrize("kind", ["json", "xml", "json, as text"])
def test_no_part_of_a_secret_shows_of_the_beginning_of_a_body(form: str, kind: str) -> None:
    value, secret = FORMED[form]
    data, content_type = bodies("remark", value)[kind]
    whole = CAPTURE.content(data + b" " * 700, content_type) or ""
    assert secret not in whole
    for end in range(len(data)):
        shown = CAPTURE.shown(data[:end] + b" " * 0, content_type, is_whole=False)
        assert shown is not None
        # Fewer than LOOK_AHEAD characters, so nothing is certain.
        assert shown.text == ""
        assert shown.is_cut
    padded = b"x " * 700 + data
    shown = CAPTURE.shown(padded, content_type, is_whole=False)
    assert shown is not None
    assert secret not in shown.text


@settings(max_examples=300, deadline=None, database=None)
@given(st.text(max_size=300), st.sampled_from(["text/plain", "application/json", "text/xml"]))
def test_any_text_is_taken(text: str, content_type: str) -> None:
    for limit in (0, 10, 4096):
        shown = BodyCapture(limit, Redactor()).shown(text.encode(errors="replace"), content_type)
        assert shown is None or len(shown.text.encode()) <= limit


HARMLESS = [
    {"orderId": "ORD123456", "userId": "USR1", "createdAt": "2026-11-27T01:05:55.123Z"},
    {"id": "5f1c2f3e-7d4b-4b8e-9a55-0242ac130003", "url": "https://shop.example/orders/1?page=2"},
    {"items": [{"sku": "SKU-1", "quantity": 2, "price": 19.9}], "tags": ["red", "blue"]},
    {"note": "Deliver at 12:30: the door is open; size = L", "phone": "+49 30 1234567"},
    {"name": "Ann", "value": 12, "text": "5 < 6 > 4", "hash": "9f86d081884c7d65"},
]


@pytest.mark.parametrize("document", HARMLESS, ids=json.dumps)
def test_what_is_harmless_is_shown_as_it_was_sent(document: Any) -> None:
    for text in (json.dumps(document), json.dumps(document, indent=1)):
        assert CAPTURE.content(text.encode(), "application/json") == text


@pytest.mark.parametrize(
    "text", ["Hello, world.", "order ORD1 is late", "5 < 6", "The order id is ORD1", "a: b\nc: d"]
)
def test_plain_text_is_shown(text: str) -> None:
    assert CAPTURE.content(text.encode(), "text/plain") == text
