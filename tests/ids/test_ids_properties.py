"""Ids against the parsers the application itself uses: the same must come out."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote_plus

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.formparser import parse_form_data
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request

from flask_bodytrace.ids.extractor import compile_rules
from flask_bodytrace.ids.rules import parse_rules
from flask_bodytrace.ids.value import id_text

NAMES = ["a", "b", "0", "orderId", "na\xefve", "x y"]
PATHS = [*NAMES[:4], "a.b", "a.0", "a.0.b", "b.a.orderId", "orderId.1.0", "na\xefve.x y"]
EXTRACTOR = compile_rules({f"id{n}": [path] for n, path in enumerate(PATHS)})
PLAIN = compile_rules(parse_rules("orderId,a.b"))

# On a busy machine slowness says nothing.
unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8"), max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


def expected_of(document: Any, path: str) -> str | None:
    for step in path.split("."):
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and step.isdigit() and int(step) < len(document):
            document = document[int(step)]
        else:
            return None
    return id_text(document)


def agree(extractor: Any, body: bytes) -> None:
    document = json.loads(body)
    expected = {path: expected_of(document, path) for path in extractor.body}
    found, _ = extractor.from_body(body, "application/json")
    assert found == {path: value for path, value in expected.items() if value is not None}


@unhurried
@given(values, st.booleans())
def test_json_as_json_loads_sees_it(document: Any, ascii_only: bool) -> None:
    body = json.dumps(document, ensure_ascii=ascii_only).encode()
    agree(EXTRACTOR, body)
    agree(PLAIN, body)


@unhurried
@given(st.lists(st.tuples(st.sampled_from(NAMES), values), max_size=6))
def test_of_doubled_keys_the_last_wins_as_in_json_loads(pairs: list[tuple[str, Any]]) -> None:
    members = ",".join(f"{json.dumps(name)}:{json.dumps(value)}" for name, value in pairs)
    body = ("{" + members + "}").encode()
    agree(EXTRACTOR, body)
    agree(PLAIN, body)


@unhurried
@given(st.binary(max_size=200), st.sampled_from(["application/json", "multipart/form-data", ""]))
def test_nothing_ever_raises(body: bytes, content_type: str) -> None:
    for kind in (content_type, "application/x-www-form-urlencoded", content_type + "; boundary=a"):
        EXTRACTOR.from_body(body, kind)
        EXTRACTOR.from_body(b'{"a": ' + body, kind)
    EXTRACTOR.from_query(body)


@st.composite
def spelled(draw: st.DrawFn, text: str) -> str:
    """`text` as some client may write it: any character escaped or not, where both are legal."""
    written = ""
    for character in text:
        plain = quote_plus(character)
        escaped = "".join(f"%{byte:02X}" for byte in character.encode())
        written += draw(st.sampled_from([plain, escaped, escaped.lower()]))
    return written


texts = st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=6)
form_pairs = st.lists(st.tuples(st.sampled_from([*NAMES, "a.b", "z"]), texts), max_size=6)


@unhurried
@given(st.data(), form_pairs)
def test_forms_and_queries_as_werkzeug_sees_them(
    data: st.DataObject, pairs: list[tuple[str, str]]
) -> None:
    text = "&".join(f"{data.draw(spelled(n))}={data.draw(spelled(v))}" for n, v in pairs)
    builder = EnvironBuilder(
        method="POST",
        data=text.encode(),
        content_type="application/x-www-form-urlencoded",
        query_string=text,
    )
    request = Request(builder.get_environ())
    expected = {p: v for p in PATHS if (v := id_text(request.form.get(p))) is not None}
    assert EXTRACTOR.from_body(text.encode(), "application/x-www-form-urlencoded")[0] == expected
    rules = {f"id{number}": [f"query:{name}"] for number, name in enumerate(PATHS)}
    in_query = {p: v for p in PATHS if (v := id_text(request.args.get(p))) is not None}
    assert compile_rules(rules).from_query(text.encode()) == in_query


@unhurried
@given(form_pairs)
def test_multipart_as_werkzeug_sees_it(pairs: list[tuple[str, str]]) -> None:
    parts = b"".join(
        b'--b\r\nContent-Disposition: form-data; name="'
        + name.encode()
        + b'"\r\n\r\n'
        + value.encode()
        + b"\r\n"
        for name, value in pairs
    )
    body = parts + b"--b--\r\n"
    builder = EnvironBuilder(
        method="POST", data=body, content_type="multipart/form-data; boundary=b"
    )
    _, form, _ = parse_form_data(builder.get_environ())
    expected = {p: v for p in PATHS if (v := id_text(form.get(p))) is not None}
    assert EXTRACTOR.from_body(body, "multipart/form-data; boundary=b")[0] == expected
