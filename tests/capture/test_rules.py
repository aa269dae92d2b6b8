"""An application's own rules: paths, patterns, an allow-list, a function."""

from __future__ import annotations

import json
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any

import pytest
from flask import Flask, request
from markupsafe import Markup

from flask_bodytrace import BodyTrace
from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import REDACTED, Redactor
from flask_bodytrace.capture.rules import Rules
from flask_bodytrace.cli import bodytrace
from flask_bodytrace.exceptions import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

ORDER = {
    "orderId": "ORD1",
    "customer": {"name": "Ann", "address": {"street": "Elm St", "city": "Ulm"}},
    "items": [{"sku": "A", "note": "left"}, {"sku": "B", "note": "right"}],
    "password": "hunter2",
}


def captured(make_app: MakeApp, spans: SpanRecorder, body: Any = ORDER, **settings: Any) -> Any:
    """What is on the span of `body`; JSON, or a form's fields where it is a string."""
    app = make_app(capture_body="always", **settings)

    @app.post("/")
    def view() -> str:
        request.get_data()
        return ""

    if isinstance(body, str):
        kind = "application/x-www-form-urlencoded" if "=" in body else "text/plain"
        app.test_client().post("/", data=body, content_type=kind)
    else:
        app.test_client().post("/", json=body)
    content = (spans.finished[-1].attributes or {}).get("http.request.body.content")
    return content if content is None or isinstance(body, str) else json.loads(str(content))


def test_paths_are_hidden(make_app: MakeApp, spans: SpanRecorder) -> None:
    found = captured(make_app, spans, redact="customer.address,items.*.note,items.0.sku")
    assert found == {
        "orderId": "ORD1",
        "customer": {"name": "Ann", "address": REDACTED},
        "items": [{"sku": REDACTED, "note": REDACTED}, {"sku": "B", "note": REDACTED}],
        "password": REDACTED,
    }


def test_with_an_allow_list_everything_else_is_hidden(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    found = captured(make_app, spans, capture_only="orderId,items.*.sku,customer.address,password")
    assert found == {
        "orderId": "ORD1",
        "customer": {"name": REDACTED, "address": {"street": "Elm St", "city": "Ulm"}},
        "items": [{"sku": "A", "note": REDACTED}, {"sku": "B", "note": REDACTED}],
        "password": REDACTED,
    }
    assert captured(make_app, spans, "some text", capture_only="orderId") is None
    assert captured(make_app, spans, "orderId=O1&b=2", capture_only="orderId") == (
        f"orderId=O1&b={REDACTED}"
    )


def test_values_are_hidden_by_patterns(make_app: MakeApp, spans: SpanRecorder) -> None:
    body = {"a": "see EMP-123456 there", "b": ["EMP-1"], "EMP-654321": 1}
    found = captured(make_app, spans, body, redact_values=[r"EMP-\d{6}"])
    assert found == {"a": f"see {REDACTED} there", "b": ["EMP-1"], REDACTED: 1}


def test_a_function_says_what_is_shown(make_app: MakeApp, spans: SpanRecorder) -> None:
    called = []

    def redact(name: str, value: Any, where: str) -> Any:
        called.append((name, where))
        if name.endswith("street"):
            raise LookupError(name)
        return value.lower() if name.endswith("sku") else value

    found = captured(make_app, spans, redact_callback=redact)
    assert [item["sku"] for item in found["items"]] == ["a", "b"]
    assert found["customer"]["address"] == {"street": REDACTED, "city": "Ulm"}
    # What it returns is hidden by name all the same.
    assert found["password"] == REDACTED
    assert ("items.1.sku", "request") in called
    assert captured(make_app, spans, "a=X&sku=Y", redact_callback=redact) == "a=X&sku=y"
    assert captured(make_app, spans, "Some text", redact_callback=lambda *_: "none") == "none"


def test_mistakes_are_told() -> None:
    with pytest.raises(ConfigError, match=r"REDACT_VALUES='\('.*regular expressions"):
        BodyTrace(Flask("a"), redact_values="(")
    with pytest.raises(ConfigError, match=r"REDACT_CALLBACK='x'.*a function"):
        BodyTrace(Flask("a"), redact_callback="x")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="one of never, errors, server-errors, always"):
        BodyTrace(Flask("a"), capture_response="sometimes")  # type: ignore[arg-type]


def test_the_commands_show_the_rules_and_what_would_be_stored(tmp_path: Path) -> None:
    app = Flask("shop")
    BodyTrace(app, capture_body="errors", redact="loyalty", redact_values=r"EMP-\d+")
    app.cli.add_command(bodytrace)
    run = app.test_cli_runner().invoke
    shown = run(args=["bodytrace", "config"]).output
    assert "loyalty" in shown
    assert r"EMP-\d+" in shown
    assert "payment cards" in shown
    path = tmp_path / "order.json"
    path.write_text(json.dumps({"loyaltyNumber": 1, "a": "EMP-7", "b": "c"}))
    result = run(args=["bodytrace", "redact", str(path)])
    assert json.loads(result.output) == {"loyaltyNumber": REDACTED, "a": REDACTED, "b": "c"}
    result = run(args=["bodytrace", "redact", "-", "--type", "text/plain"], input="pin: 12, hello")
    assert result.output.startswith(f"pin: {REDACTED}")
    assert "secrets found by their form only" in result.output
    result = run(args=["bodytrace", "redact", "-", "--type", "image/png"], input="x")
    assert result.exit_code == 1
    assert "only size and type are captured of image/png" in result.output


SECRET = "hunter2-Zx81"


class Note(str, Enum):
    SECRET = f"password={SECRET}"


MARKUP = Markup("password=") + SECRET


class NoText:
    def __str__(self) -> str:
        raise ValueError("no text")


FORMS = {
    "application/json": b'{"a":{"b":1}}',
    "application/x-www-form-urlencoded": b"a=1&b=2",
    "text/plain": b"hello",
    "application/x-ndjson": b'{"a":1}\n{"b":',
    "multipart/form-data; boundary=b": (
        b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n--b--'
    ),
}


RETURNED: dict[str, object] = {
    "enumeration": Note.SECRET,
    "markup": MARKUP,
    "bytes": f"password={SECRET}".encode(),
    "list": [f"password={SECRET}"],
    "mapping": {"password": SECRET},
    "card": 4111111111111111,
    "no text": NoText(),
    "list of no text": [NoText()],
    "boolean": True,
    "large": 10**30,
    "no number": float("nan"),
    "decimal": Decimal("1.5"),
    "half a pair": "\ud800",
    "none": None,
}


@pytest.mark.parametrize("content_type", FORMS)
@pytest.mark.parametrize("kind", RETURNED)
def test_whatever_a_function_returns_is_looked_through(kind: str, content_type: str) -> None:
    rules = Rules(callback=lambda _name, _value, _where: RETURNED[kind])
    shown = BodyCapture(4096, Redactor(), rules).content(FORMS[content_type], content_type)
    assert shown is not None
    assert SECRET not in shown
    assert "4111" not in shown
