"""What a parser does not tell: names that come twice, other forms of numbers, lone words."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import REDACTED, Redactor

from .corpus import CARD, SECRET

CAPTURE = BodyCapture(1 << 16, Redactor())
FORM = "application/x-www-form-urlencoded"


def content(data: str, content_type: str = "application/json") -> str:
    return CAPTURE.content(data.encode(), content_type) or ""


TWICE = [
    f'{{"note":"{CARD}","note":"x"}}',
    f'{{"note" : "{CARD}", "note":"x"}}',
    f'{{"a":{{"note":"{CARD}"}},"a":1}}',
    f'{{"n\\u006fte":"{CARD}","note":"x"}}',
    f'[{{"a":1}},{{"note":["{CARD}"],"note":"a:b"}}]',
]


@pytest.mark.parametrize("text", TWICE)
def test_of_two_fields_with_one_name_no_secret_of_the_first_shows(text: str) -> None:
    nested = json.dumps({"a": text})
    for sent in (text, nested, f"{text}\n{text}"):
        assert CARD not in content(sent)
    assert CARD not in content(f"{text}\n", "application/x-ndjson")
    assert CARD not in content(f"a=b&c={quote(text)}", FORM)


@pytest.mark.parametrize(
    "document", [{"a": "b: c"}, {"a": 'say "x": 1'}, {"a": {"b": []}, "c": [{"b": 1}, {"b": 2}]}]
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", " : ")])
def test_a_name_in_two_mappings_is_not_twice(document: object, separators: tuple[str, str]) -> None:
    text = json.dumps(document, separators=separators)
    assert content(text) == text


@pytest.mark.parametrize("number", [f"{CARD}.0", "4.111111111111111e15", f"-{CARD}", f"{CARD}e0"])
def test_a_card_is_hidden_in_every_form_of_a_number(number: str) -> None:
    assert content(f'{{"n":{number},"last":1}}') == f'{{"n":"{REDACTED}","last":1}}'


@pytest.mark.parametrize(
    "number",
    # Times since 1970 and dates that pass the Luhn check, an article's number, and others.
    ["1764529200004", "1764529200000005", "20261127010552", "9780306406157", "1e300", "-1e300"],
)
def test_times_and_other_numbers_are_shown(number: str) -> None:
    for text in (f'{{"n":{number}}}', f'{{"n":"{number}"}}'):
        assert content(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "9c546496-be47-cc7a-4460-56bfb6aafae5",
        "8ce80f7045b9f858a005ab707860326332361ae2",
        "7ae0034f5671416477902db8",
    ],
)
def test_numbers_within_hexadecimal_ids_are_shown(text: str) -> None:
    assert content(json.dumps({"id": text})) == json.dumps({"id": text})


PARTS = (
    'Content-Disposition: form-data; name="a"\r\n\r\n1',
    f"Content-Disposition: form-data\r\n\r\n{SECRET}",
)


def test_words_without_a_name_are_hidden() -> None:
    for form in (f"{SECRET}=", f"{SECRET}==", f"a=b&{SECRET}", f"a=b&{CARD}=1"):
        assert SECRET not in content(form, FORM)
        assert CARD not in content(form, FORM)
    body = "".join(f"--b\r\n{part}\r\n" for part in PARTS) + "--b--"
    assert content(body, "multipart/form-data; boundary=b") == f'{{"a":"1","":"{REDACTED}"}}'


@pytest.mark.parametrize(
    "form",
    [
        f"items[0][name]=password&items[0][value]={SECRET}",
        f"user%5Btype%5D=password&user%5Bvalue%5D={SECRET}",
        f"a=1&p%2561ssword={SECRET}",
    ],
)
def test_names_in_forms_may_be_paths_and_escaped(form: str) -> None:
    assert SECRET not in content(form, FORM)


@pytest.mark.parametrize(
    "document",
    [
        {"type": "password", "value": SECRET, "temporary": False},
        {"op": "replace", "path": "/user/password", "value": SECRET},
        {"parameter": "api_key", "newValue": SECRET},
        {"k": "pin", "v": SECRET},
        {"variable": "client_secret", "default": SECRET},
    ],
    ids=json.dumps,
)
def test_what_names_and_what_is_named_have_many_words(document: object) -> None:
    text = json.dumps([document, {"last": 1}])
    for sent in (text, text[:-1]):
        assert SECRET not in content(sent)
