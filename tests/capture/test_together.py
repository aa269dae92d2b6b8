"""The strings of a document are looked through together; what is found alone is found so too."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flask_bodytrace.capture import copying
from flask_bodytrace.capture.redactor import Redactor

from .corpus import FORMED

_PIECES = (
    *("password", "user", "name", "value", "token", "Bearer ", "Basic ", "hunter2hunter2", "x1"),
    *(":", ": ", " : ", ",", ", ", "'", "',", "':", "' :", ">", ";", ".", "-", " ", "  ", "\u00a0"),
    *("http://", "user:pw@", "@host", "/", "://", "%", "$", "]", "}", "&lt;", "&quot;", "[", "{"),
    *("4111", "41111111", "1111 1111", "4111 1111 1111 1111", "DE89", "370400440532013000", "GB"),
    *("eyJ", "eyJhbGciOiJub25lIn0", "AKIA", "IOSFODNN7EXAMPLE", "sk-", "A" * 20, "ghp_"),
    *(value for value, _ in FORMED.values() if not set(value) & set('"\\<=\n\r\t')),
)
_strings = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=6).map("".join)


def is_harmless(document: Any, redactor: Redactor) -> bool:
    return copying.is_harmless(document, json.dumps(document), redactor, is_marked=False)


@given(st.lists(_strings, min_size=1, max_size=5))
@settings(max_examples=1500, deadline=None)
def test_strings_hide_no_secret_of_each_other(strings: list[str]) -> None:
    redactor = Redactor()
    fields: dict[str, Any] = {f"f{number}": each for number, each in enumerate(strings)}
    alone = [each for each in strings if len(each) > 12 or ":" in each]
    if any(redactor.text(each) != each for each in alone):
        assert not is_harmless(fields, redactor)


@pytest.mark.parametrize("form", FORMED)
def test_each_form_is_found_among_other_strings(form: str) -> None:
    value, _ = FORMED[form]
    for before, after in (("a longer string", "another string"), ("user:", ": x"), ("it's,", "'")):
        document = {"a": before, "b": {"c": value}, "d": after}
        assert not is_harmless(document, Redactor())


def test_names_are_looked_at_again_where_a_value_may_be_named_by_them() -> None:
    redactor = Redactor()
    assert is_harmless({"name": "a", "data": 1}, redactor) is False
    for _ in range(2):
        assert is_harmless({"name": "a", "sku": "b"}, redactor)
        assert is_harmless({"data": "a", "sku": "b"}, redactor)
    assert not is_harmless({"name": "password", "data": "b"}, redactor)
    assert not is_harmless({"sku": "a", "password": "b"}, redactor)


def test_what_is_kept_of_names_is_bounded() -> None:
    redactor = Redactor()
    for number in range(3000):
        assert is_harmless({f"field{number}": 1}, redactor)
    assert is_harmless({f"field{number}": 1 for number in range(3000)}, redactor)
    assert len(redactor._harmless) <= 1024
