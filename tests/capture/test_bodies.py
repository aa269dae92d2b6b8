from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import pytest
from flask import Flask, Response, request
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace
from flask_bodytrace.capture.documents import BodyCapture
from flask_bodytrace.capture.redactor import REDACTED, Redactor

if TYPE_CHECKING:
    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

CONTENT = "http.request.body.content"
SECRET = "hunter2hunter2"


def reading(app: Flask) -> Flask:
    @app.post("/read")
    def read() -> str:
        return request.get_data(as_text=True)

    @app.post("/unread")
    def unread() -> str:
        return ""

    @app.post("/fail")
    def fail() -> str:
        request.get_data()
        raise LookupError("no stock")

    @app.post("/handled")
    def handled() -> str:
        request.get_data()
        raise KeyError("no such thing")

    @app.errorhandler(KeyError)
    def answer(_error: KeyError) -> tuple[str, int]:
        return "", 422

    @app.post("/refused")
    def refused() -> tuple[str, int]:
        return request.get_data(as_text=True), 400

    @app.post("/unavailable")
    def unavailable() -> tuple[str, int]:
        return request.get_data(as_text=True), 503

    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


REQUEST = ("http.request.body.", "http.request.header.content-type", "bodytrace.request.body.")


def captured(spans: SpanRecorder) -> list[dict[str, Any]]:
    """What each span that has any says of its request's body."""
    return [
        found
        for span in spans.finished
        if (
            found := {
                name: value
                for name, value in (span.attributes or {}).items()
                if name.startswith(REQUEST)
            }
        )
    ]


def only(spans: SpanRecorder) -> dict[str, Any]:
    found = captured(spans)
    assert len(found) == 1, found
    return found[0]


def test_json_is_captured_without_secrets_however_deep(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = reading(make_app(capture_body="always", redact="iban"))
    document = {
        "orderId": "ORD1",
        "password": SECRET,
        "customer": {"apiKey": SECRET, "name": "Ann", "cards": [{"card_number": SECRET, "ok": 1}]},
        "payments": [{"IBAN": SECRET}, [{"access-token": {"value": SECRET}}]],
        "note": json.dumps({"pwd": SECRET, "list": [{"secret": SECRET}]}),
        "broken": '{"pwd": "' + SECRET,
        "designs": True,
    }
    answer = app.test_client().post("/read", json=document)
    assert json.loads(answer.data) == document
    attributes = only(spans)
    assert attributes["http.request.body.size"] == len(answer.data)
    assert attributes["http.request.header.content-type"] == ("application/json",)
    shown = json.loads(attributes[CONTENT])
    assert SECRET not in attributes[CONTENT]
    assert shown["orderId"] == "ORD1"
    assert shown["designs"] is True
    assert shown["customer"] == {
        "apiKey": REDACTED,
        "name": "Ann",
        "cards": [{"card_number": REDACTED, "ok": 1}],
    }
    assert shown["payments"] == [{"IBAN": REDACTED}, [{"access-token": REDACTED}]]
    assert json.loads(shown["note"]) == {"pwd": REDACTED, "list": [{"secret": REDACTED}]}
    assert shown["broken"] == '{"pwd": ' + REDACTED


def test_a_form_is_captured_without_secrets(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post(
        "/read",
        data={"a": "1 2", "user[password]": SECRET, "payload": json.dumps({"pwd": SECRET})},
    )
    content = only(spans)[CONTENT]
    assert content == (f"a=1+2&user%5Bpassword%5D={REDACTED}&payload={REDACTED}")


def test_multipart_fields_are_captured_files_never(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post(
        "/read",
        data={
            "a": ["1", "2"],
            "password": SECRET,
            "upload": (io.BytesIO(SECRET.encode()), "résumé.txt"),
        },
    )
    content = only(spans)[CONTENT]
    assert SECRET not in content
    assert json.loads(content) == {
        "a": ["1", "2"],
        "password": REDACTED,
        "upload": {"filename": "résumé.txt", "size": len(SECRET)},
    }


@pytest.mark.parametrize(
    ("data", "content_type", "shown"),
    [
        ('{"password": "' + SECRET, "application/json", '{"password": REDACTED'),
        ('{"password": "' + SECRET + '"}', "text/plain", '{"password": REDACTED}'),
        ("password: " + SECRET, "application/x-www-form-urlencoded", "password: REDACTED"),
        (f"<a><pin>{SECRET}</pin>b</a>", "application/xml", "<a><pin>REDACTED</pin>b</a>"),
        ("[" * 100, "application/json", "[" * 100),
        (f"the password is {SECRET}.", "text/plain; charset=utf-16", "the password is REDACTED"),
        ('{"a": NaN, "pin": 12', "application/vnd.api+json", '{"a": NaN, "pin": REDACTED'),
    ],
)
def test_what_does_not_parse_is_shown_as_text_and_says_so(
    make_app: MakeApp, spans: SpanRecorder, data: str, content_type: str, shown: str
) -> None:
    app = reading(make_app(capture_body="always"))
    body = data.encode("utf-16" if "utf-16" in content_type else "utf-8")
    app.test_client().post("/read", data=body, content_type=content_type)
    assert only(spans) == {
        "http.request.body.size": len(body),
        "http.request.header.content-type": (content_type.partition(";")[0],),
        CONTENT: shown,
        "bodytrace.request.body.unparsed": True,
    }


@pytest.mark.parametrize(
    ("data", "content_type", "shown"),
    [
        # The type that curl gives to everything.
        (
            b'{"password": "hunter2"}',
            "application/x-www-form-urlencoded",
            '{"password":"REDACTED"}',
        ),
        (b'"hunter2"', "application/json", '"REDACTED"'),
        ('{"a": "b"}'.encode("utf-16"), "application/json", '{"a": "b"}'),
        (b'\xef\xbb\xbf{"a": 1}', "application/json", '{"a": 1}'),
        (b'{"a": NaN}', "application/json", '{"a": NaN}'),
        (b'{"a": "\\ud800", "pin": 1}', "application/json", '{"a":"?","pin":"REDACTED"}'),
        # JSON is UTF-8 whatever the parameter says (RFC 8259, 8.1).
        (b'{"a": "b"}', "application/json; charset=utf-16", '{"a": "b"}'),
        (b'{"a":1}\n{"pin":1}\n', "application/x-ndjson", '{"a":1}\n{"pin":"REDACTED"}\n'),
        (b"12", "application/json", "12"),
    ],
)
def test_what_parses_is_shown_without_secrets(
    make_app: MakeApp, spans: SpanRecorder, data: bytes, content_type: str, shown: str
) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post("/read", data=data, content_type=content_type)
    found = only(spans)
    assert found[CONTENT] == shown
    assert "bodytrace.request.body.unparsed" not in found


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"--x\r\n\r\n" + SECRET.encode(), "multipart/form-data; boundary=x"),
        (b"no boundary" + SECRET.encode(), "multipart/form-data"),
        (b"user,password\nann," + SECRET.encode(), "text/csv"),
        (SECRET.encode("utf-16"), "text/plain"),
        (SECRET.encode(), "application/octet-stream"),
    ],
)
def test_of_what_is_no_text_only_size_and_type_are_said(
    make_app: MakeApp, spans: SpanRecorder, data: bytes, content_type: str
) -> None:
    app = reading(make_app(capture_body="always"))
    answer = app.test_client().post("/read", data=data, content_type=content_type)
    assert answer.data
    assert only(spans) == {
        "http.request.body.size": len(data),
        "http.request.header.content-type": (content_type.partition(";")[0],),
    }


def test_a_bare_word_in_a_form_may_be_a_secret(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post("/read", data=SECRET, content_type="application/x-www-form-urlencoded")
    assert only(spans)[CONTENT] == REDACTED


def test_compressed_bodies_are_not_unpacked(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post("/read", json={"a": 1}, headers={"Content-Encoding": "gzip"})
    assert CONTENT not in only(spans)


def test_of_a_part_of_a_document_nothing_is_shown(make_app: MakeApp, spans: SpanRecorder) -> None:
    # It may begin behind the name of a secret.
    app = reading(make_app(capture_body="always"))
    range_of = {"Content-Range": "bytes 4-20/21", "Content-Type": "text/plain"}
    app.test_client().post("/read", data=f"word={SECRET}", headers=range_of)
    assert CONTENT not in only(spans)


def test_content_is_cut_after_redaction_and_says_so(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always", capture_limit=50))
    app.test_client().post("/read", json={"password": SECRET, "text": "é" * 1000})
    attributes = only(spans)
    assert len(attributes[CONTENT].encode()) <= 50
    assert attributes[CONTENT].startswith('{"password":"REDACTED","text":"éé')
    assert attributes["bodytrace.request.body.truncated"] is True


def test_of_large_bodies_only_size_and_type_are_said(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post("/read", json={"text": "x" * 1_100_000})
    assert CONTENT not in only(spans)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/read", False),
        ("/refused", True),
        ("/fail", True),
        ("/handled", True),
        ("/unavailable", True),
    ],
)
def test_errors_are_4xx_5xx_and_exceptions_whoever_answers_for_them(
    make_app: MakeApp, spans: SpanRecorder, path: str, *, expected: bool
) -> None:
    app = reading(make_app(capture_body="errors"))
    app.test_client().post(path, json={"a": 1})
    assert bool(captured(spans)) is expected


def test_server_errors_leave_out_4xx_without_an_exception(
    make_app: MakeApp, spans: SpanRecorder
) -> None:
    app = reading(make_app(capture_body="server-errors"))
    for path in ("/read", "/refused", "/handled", "/unavailable"):
        app.test_client().post(path, json={"path": path})
    shown = [json.loads(found[CONTENT])["path"] for found in captured(spans)]
    assert shown == ["/handled", "/unavailable"]


def test_never_is_the_default(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app())
    app.test_client().post("/fail", json={"a": 1})
    assert spans.named("POST /fail")
    assert not captured(spans)


class Untouchable(io.BytesIO):
    """A server's input that nobody may read."""

    def read(self, size: int | None = -1) -> bytes:
        raise AssertionError(f"read({size}) of a body that the application did not ask for")


# B22
def test_a_body_nobody_read_stays_unread(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    answer = app.test_client().post(
        "/unread",
        content_type="application/json",
        environ_overrides={"wsgi.input": Untouchable(), "CONTENT_LENGTH": "20"},
    )
    assert answer.status_code == 200
    assert only(spans) == {
        "http.request.body.size": 20,
        "http.request.header.content-type": ("application/json",),
    }


def test_no_body_is_no_attribute(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always"))
    app.test_client().post("/read")
    assert spans.named("POST /read")
    assert not captured(spans)


# B23
def test_no_readers_position_moves(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = make_app(capture_body="always")
    seen: list[tuple[int, int, bytes]] = []

    @app.post("/half")
    def half() -> Response:
        stream = request.stream
        stream.read(3)

        def answer() -> Iterator[bytes]:
            yield b"x"
            # All of the answer is out, so the span is over and the body captured.
            seen.append((len(captured(spans)), stream.tell(), stream.read()))

        return Response(answer(), headers={"Content-Length": "1"})

    app.test_client().post("/half", data=b'{"a": 1}').get_data()
    assert seen == [(1, 3, b'": 1}')]


def test_a_spilled_body_can_be_captured(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always", memory_limit=1000))
    document = {"text": "x" * 200_000}
    app.test_client().post("/read", json=document)
    assert only(spans)[CONTENT].startswith('{"text":"xxx')


def test_an_excluded_route_captures_nothing(make_app: MakeApp, spans: SpanRecorder) -> None:
    app = reading(make_app(capture_body="always", excluded_urls="/read"))
    app.test_client().post("/read", json={"a": 1})
    assert spans.finished == []


@pytest.mark.parametrize("other", ["middleware", "flask", "flask, before ours"])
@pytest.mark.parametrize("when", ["always", "errors"])
def test_the_span_of_another_instrumentation_gets_the_body_too(
    provider: TracerProvider,
    spans: SpanRecorder,
    caplog: pytest.LogCaptureFixture,
    other: str,
    when: Literal["always", "errors"],
) -> None:
    app = Flask("shop")
    instrumentor = FlaskInstrumentor()
    if other == "flask, before ours":
        instrumentor.instrument_app(app, tracer_provider=provider)  # type: ignore[no-untyped-call]
    BodyTrace(app, tracer_provider=provider, capture_body=when)
    if other == "flask":
        instrumentor.instrument_app(app, tracer_provider=provider)  # type: ignore[no-untyped-call]
    elif other == "middleware":
        app.wsgi_app = OpenTelemetryMiddleware(  # type: ignore[method-assign]
            app.wsgi_app, tracer_provider=provider
        )
    reading(app).test_client().post("/unavailable", json={"a": 1})
    assert json.loads(only(spans)[CONTENT]) == {"a": 1}
    assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]


def test_a_failure_to_capture_leaves_the_answer_and_the_span(
    make_app: MakeApp,
    spans: SpanRecorder,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(BodyCapture, "shown", broken)
    app = reading(make_app(capture_body="always"))
    client = app.test_client()
    for _ in range(2):
        assert client.post("/read", json={"a": 1}).status_code == 200
    assert len(spans.named("POST /read")) == 2
    assert [record.getMessage() for record in caplog.records].count(
        "tracing failed at 'capture'; the request goes on without it (logged once)"
    ) == 1


NAMES = st.sampled_from(["password", "apiKey", "x-auth-token", "card", "a", "b", "clientSecret"])
# Not the names of secrets: in a list, what follows one is hidden.
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="{["), max_size=5).filter(
    lambda text: not Redactor().is_secret(text)
)
DOCUMENTS = st.recursive(
    st.none() | st.booleans() | st.integers(-10, 10) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=15,
)


def hide(value: Any, redactor: Redactor, marker: str) -> Any:
    """The same, plainly: every value below a secret name replaced."""
    if isinstance(value, dict):
        return {
            name: marker if redactor.is_secret(name) else hide(inner, redactor, marker)
            for name, inner in value.items()
        }
    if isinstance(value, list):
        return [hide(inner, redactor, marker) for inner in value]
    return value


@settings(max_examples=200, deadline=None, database=None)
@given(DOCUMENTS.filter(lambda document: isinstance(document, dict | list)), st.integers(0, 200))
def test_no_secret_shows_at_any_limit(document: Any, limit: int) -> None:
    redactor = Redactor()
    data = json.dumps(hide(document, redactor, SECRET)).encode()
    cut = BodyCapture(limit, redactor).content(data, "application/json")
    assert cut is not None
    assert SECRET[:4] not in cut
    whole = BodyCapture(10_000, redactor).content(data, "application/json")
    assert whole is not None
    assert json.loads(whole) == hide(document, redactor, REDACTED)
    assert len(cut.encode()) <= limit
    # What is whole and harmless is shown as it was sent.
    assert whole.replace(" ", "").startswith(cut.replace(" ", ""))
