"""What is hidden from spans, and what is not."""

from __future__ import annotations

import json

import pytest

from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import REDACTED, Redactor

SECRET = "hunter2hunter2"
MULTIPART = "multipart/form-data; boundary=b"
PART = b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
CARD = "4111 1111 1111 1111"
NAMES = [
    *("cardnumber", "creditcard", "cvv2", "pin", "pan", "iban", "accountNumber", "passWord"),
    *("authorization", "cookie", "private_key", "access_key", "jwt", "otp", "api_key", "apiKey"),
    *("API-KEY", "x-api-key", "Set-Cookie", "proxy-authorization", "csrftoken", "_csrf_token"),
    *("XSRF-TOKEN", "PHPSESSID", "sessionid", "session_id", "connect.sid", "aiohttp_session"),
    *("mysql_pwd", "passwd", "password1", "newPassword2", "client_secret", "credentials", "auth"),
    *("user_session", "refreshToken", "AWSAccessKeyId", "X-Goog-Signature", "sig", "Signature"),
    *(
        "card",
        "card_number",
        "securityCode",
        "SSN",
        "cvc",
        "totp",
        "bearer",
        "sshKey",
        "signing_key",
        "pa$$word",
    ),
]
HARMLESS = [
    *("author", "assign", "encode", "keyboard", "id", "", "design", "japan", "spin", "name"),
    *("orderId", "discard", "postcard_count", "opinion", "company", "expand", "coder", "desk"),
    *("passenger", "pinned", "spinner", "tokenize", "tokenizer", "secretary", "possession"),
    *("statusCode", "error.code", "postal_code", "countryCode", "currency-code", "cardType"),
    *("max_tokens", "token_type", "expires_in", "tokenExpiresIn", "mfaEnabled", "session_count"),
    *("bypass", "compass", "public_key", "primaryKey", "authors", "hash", "bulk"),
]


# Those of no text, those that take no errors, and none at all.
CHARSETS = ["idna", "undefined", "base64", "punycode", "rot13", "x" * 9999, "\0", "utf-7", "utf-32"]


@pytest.mark.parametrize("name", NAMES)
def test_names_of_secrets_are_hidden_wherever_they_stand(name: str) -> None:
    assert Redactor().is_secret(name)
    capture = BodyCapture(4096, Redactor())
    for document in ({name: SECRET}, {"a": [{name: [SECRET]}]}, {"name": name, "value": SECRET}):
        shown = capture.content(json.dumps(document).encode(), "application/json")
        assert shown is not None
        assert SECRET not in shown
        nested = json.dumps({"a": json.dumps({"b": json.dumps(document)})})
        assert SECRET not in (capture.content(nested.encode(), "application/json") or "")
        quoted = json.dumps({"a": json.dumps(json.dumps(document))})
        assert SECRET not in (capture.content(quoted.encode(), "application/json") or "")
    form = capture.content(f"a=b&{name}={SECRET}".encode(), "application/x-www-form-urlencoded")
    assert SECRET not in (form or "")
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{SECRET}\r\n--b--\r\n'
    shown = capture.content(part.encode(), "multipart/form-data; boundary=b")
    assert SECRET not in (shown or "")


@pytest.mark.parametrize("name", HARMLESS)
def test_harmless_names_are_shown(name: str) -> None:
    assert not Redactor().is_secret(name)


@pytest.mark.parametrize("name", ["AWSAccessKeyId", "key", "KEY", "token", "X%2DApi%2DKey"])
def test_secrets_in_query_strings_are_hidden(name: str) -> None:
    assert Redactor().query(f"a=b&{name}={SECRET}&c=d") == f"a=b&{name}={REDACTED}&c=d"


def test_a_field_called_key_is_no_secret_in_a_body() -> None:
    assert not Redactor().is_secret("key")


@pytest.mark.parametrize(
    "number", [CARD, "4111-1111-1111-1111", "378282246310005", "6011000990139424"]
)
def test_payment_cards_are_hidden_under_any_name(number: str) -> None:
    capture = BodyCapture(4096, Redactor())
    shown = capture.content(
        json.dumps({"note": f"pay {number}, please"}).encode(), "text/json+json"
    )
    assert shown == json.dumps({"note": f"pay {REDACTED}, please"}, separators=(",", ":"))
    assert number in (
        BodyCapture(4096, Redactor(cards=False)).content(
            json.dumps({"note": number}).encode(), "application/json"
        )
        or ""
    )


def test_a_card_as_a_number_is_hidden() -> None:
    capture = BodyCapture(4096, Redactor())
    assert capture.content(b'{"n":4111111111111111}', "application/json") == '{"n":"REDACTED"}'
    assert capture.content(b'{"n":4111111111111112}', "application/json") == (
        '{"n":4111111111111112}'
    )


def test_credentials_in_urls_are_hidden() -> None:
    shown = Redactor().text("see https://user:hunter2@shop.example/a?b=c and http://x/y")
    assert shown == f"see https://{REDACTED}@shop.example/a?b=c and http://x/y"


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n", MULTIPART),
        (PART * 1001 + b"--b--", MULTIPART),
        (b"--b", "multipart/form-data"),
        (b"[" * 100_000, "application/json"),
        (b"\xff", "application/json"),
        *((b"a=\xff", f"text/plain; charset={name}") for name in CHARSETS),
    ],
    ids=["no name", "1001 parts", "no boundary", "deep", "no text", *map(repr, CHARSETS)],
)
def test_nothing_that_a_client_sends_raises(body: bytes, content_type: str) -> None:
    BodyCapture(4096, Redactor()).content(body, content_type)


def test_names_given_by_a_setting_are_hidden_too() -> None:
    redactor = Redactor(["customer_note", "vip"])
    assert redactor.is_secret("CustomerNote2")
    assert redactor.is_secret("is_vip")
    assert not redactor.is_secret("viper")
    # Also where the word is not Latin, and where what is said of a secret would be shown.
    assert Redactor(["\u043f\u0430\u0440\u043e\u043b\u044c"]).is_secret(
        "\u043f\u0430\u0440\u043e\u043b\u044c"
    )
    assert Redactor(["token_type"]).is_secret("token_type")


def test_what_is_remembered_of_names_is_bounded() -> None:
    redactor = Redactor()
    for number in range(5000):
        redactor.is_secret(f"name {number}")
        redactor.query(f"name{number}{'x' * 1000}=1")
        redactor.is_secret(f"{number}{'x' * 10_000}")
    assert len(redactor._kinds) <= 1024
    assert max(map(len, redactor._kinds)) <= 129
