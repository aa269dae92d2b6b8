"""Business ids: pure extraction, and what becomes of them in a request."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from flask import Flask, g
from opentelemetry import baggage
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    Decision,
    Sampler,
    SamplingResult,
)
from werkzeug.test import EnvironBuilder

from flask_bodytrace import BodyTrace, ConfigError
from flask_bodytrace.ids.extractor import compile_rules
from flask_bodytrace.ids.hash import derive_trace_id, id_hasher
from flask_bodytrace.ids.rules import check_rules, parse_rules
from flask_bodytrace.ids.sources import IdSources
from flask_bodytrace.ids.value import id_text

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


def found(rules: str, body: bytes, content_type: str = JSON) -> dict[str, str]:
    return compile_rules(parse_rules(rules)).from_body(body, content_type)[0]


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ("orderId", {"orderId": ["orderId"]}),
        ("order.id=orderId, user.id=userId", {"order.id": ["orderId"], "user.id": ["userId"]}),
        ("order.id=orderId,order.id=path:oid", {"order.id": ["orderId", "path:oid"]}),
        ("query:oid", {"oid": ["query:oid"]}),
        (" , ", {}),
    ],
)
def test_rules_are_read_from_text(rules: str, expected: dict[str, list[str]]) -> None:
    assert parse_rules(rules) == expected


@pytest.mark.parametrize("source", ["cookie:sid", "a..b", ".a", "a.", "path:", 'a"b', "a\\b"])
def test_rules_that_could_never_work_are_refused_by_name(source: str) -> None:
    with pytest.raises(ConfigError, match=r"^'"):
        check_rules({"id": [source]})


@pytest.mark.parametrize("rules", ["=orderId", "order.id="])
def test_half_rules_are_refused(rules: str) -> None:
    with pytest.raises(ConfigError, match="both sides"):
        parse_rules(rules)


def test_an_attribute_name_must_be_one() -> None:
    with pytest.raises(ConfigError, match="attribute name"):
        check_rules({"order id": ["orderId"]})


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": "x"}', {"a": "x"}),
        (b'\xef\xbb\xbf{"a": "x"}', {"a": "x"}),
        (b'{"a": 12345678901234567890123}', {"a": "12345678901234567890123"}),
        (b'{"a": 1.50}', {"a": "1.5"}),
        (b'{"a": "  x  "}', {"a": "x"}),
        (b'{"a": "\\u00e9\\ud83d\\ude00"}', {"a": "\xe9\U0001f600"}),
        (b'{"a": "x", "a": "y"}', {"a": "y"}),
        (b'{"a": {"b": 1}, "a": "y"}', {"a": "y"}),
        (b'{"o": {"id": 7}}', {"o.id": "7"}),
        (b'{"o": [0, {"id": 8}]}', {"o.1.id": "8"}),
        (b'{"o": {"1": {"id": 9}}}', {"o.1.id": "9"}),
        (b'{"a": {"b": "c"}}', {"a.b": "c"}),
        (b'{"a": true}', {}),
        (b'{"a": null}', {}),
        (b'{"a": ["x"]}', {}),
        (b'{"a": {"x": 1}}', {}),
        (b'{"a": ""}', {}),
        (b'{"a": "   "}', {}),
        (b'{"a": "x\\u0000y"}', {}),
        (b'{"a": "x\\ny"}', {}),
        (b'{"a": "\\ud800"}', {}),
        (b'{"a": "\xff"}', {}),
        (b'{"a": "x"', {}),
        (b'{"a": "x"} trailing', {}),
        (b'["a"]', {}),
        (b'"a"', {}),
        (b"", {}),
        ('{"a": "x"}'.encode("utf-16"), {"a": "x"}),
        (b"[" * 100_000, {}),
        (b'{"a": ' + b'{"a": ' * 50_000, {}),
        (b'{"a": ' + b"9" * 5000 + b"}", {}),
    ],
)
def test_json(body: bytes, expected: dict[str, str]) -> None:
    assert found("a,o.id,o.1.id,a.b", body) == expected


def test_a_value_of_another_type_ends_its_own_path_only() -> None:
    assert found("a,b.c,d.0", b'{"a": 1, "b": [2], "d": ["x"]}') == {"a": "1", "d.0": "x"}
    assert found("a,b", b'{"a": ' + b"9" * 5000 + b', "b": "kept"}') in ({"b": "kept"}, {})


def test_an_id_is_cut_at_256_characters() -> None:
    assert found("a", b'{"a": "' + b"x" * 10_000 + b'"}') == {"a": "x" * 256}
    assert found("a", b"a=" + b"%C3%A9" * 1000, FORM) == {"a": "\xe9" * 256}


def test_plus_json_types_count_and_others_do_not() -> None:
    assert found("a", b'{"a": 1}', "application/vnd.api+json; charset=utf-8") == {"a": "1"}
    assert found("a", b'{"a": 1}', "text/plain") == {}
    assert found("a", b'{"a": 1}', "") == {}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"a=x", {"a": "x"}),
        (b"b=1&a=x+y%21&c=2", {"a": "x y!"}),
        (b"a=x&a=y", {"a": "x"}),
        (b"a=&a=y", {}),
        (b"a&a=y", {}),
        (b"xa=1&ax=2", {}),
        (b"%61=x", {"a": "x"}),
        (b"o%2eid=7&o%2Eid=8", {"o.id": "7"}),
        (b"na%C3%AFve+name=%c3%a9", {"na\xefve name": "\xe9"}),
        ("na\xefve%20name=\xe9".encode(), {"na\xefve name": "\xe9"}),
        (b"a=%FF", {"a": "%FF"}),
        (b"a=%EF%BF%BD", {}),
        (b"a=x%00y", {}),
        (b"a=x%0Ay", {}),
        (b"a=%", {"a": "%"}),
        (b"&&a=x&&", {"a": "x"}),
        (b"b=a=x", {}),
    ],
)
def test_urlencoded(body: bytes, expected: dict[str, str]) -> None:
    assert found("a,o.id,x=na\xefve name", body, FORM) == expected


def multipart(*fields: tuple[str, Any]) -> tuple[bytes, str]:
    builder = EnvironBuilder(method="POST", data=dict(fields), content_type="multipart/form-data")
    environ = builder.get_environ()
    return environ["wsgi.input"].read(), environ["CONTENT_TYPE"]


def part(header: str, value: bytes) -> bytes:
    return b"--B\r\n" + header.encode() + b"\r\n\r\n" + value + b"\r\n"


def test_multipart_fields() -> None:
    body, content_type = multipart(("b", "1"), ("a", "x \xe9"), ("c", "2"))
    assert found("a,z", body, content_type) == {"a": "x \xe9"}


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        (part('Content-Disposition: form-data; name="a"', b"x"), {"a": "x"}),
        (part('Content-Disposition: form-data; name="a"; filename="f"', b"x"), {}),
        (part('Content-Disposition: form-data; name="a"', b"\xff"), {}),
        (part('Content-Disposition: form-data; name="a"', b""), {}),
        (
            part('Content-Disposition: form-data; name="a"', b"")
            + part('Content-Disposition: form-data; name="a"', b"second"),
            {},
        ),
        (
            part(
                'Content-Disposition: form-data; name="a"\r\n'
                "Content-Type: text/plain; charset=iso-8859-1",
                b"\xc3\xa9",
            ),
            {"a": "\xc3\xa9"},
        ),
    ],
)
def test_multipart_by_hand(parts: bytes, expected: dict[str, str]) -> None:
    assert found("a", parts + b"--B--\r\n", "multipart/form-data; boundary=B") == expected


@pytest.mark.parametrize("boundary", ["", "; boundary=", "; boundary=\xff", "; boundary=other"])
def test_a_boundary_that_is_none_gives_no_id(boundary: str) -> None:
    body = part('Content-Disposition: form-data; name="a"', b"x") + b"--B--\r\n"
    assert found("a", body, "multipart/form-data" + boundary) == {}


def test_a_thousand_parts_are_enough() -> None:
    body = part('Content-Disposition: form-data; name="b"', b"x") * 1500
    body += part('Content-Disposition: form-data; name="a"', b"x") + b"--B--\r\n"
    assert found("a", body, "multipart/form-data; boundary=B") == {}


@pytest.mark.parametrize("value", [None, True, False, [], {}, b"x", object(), "", "\x1b[0m", "\t"])
def test_what_is_no_id(value: object) -> None:
    assert id_text(value) is None


def test_what_url_converters_give_is_an_id() -> None:
    assert id_text(7) == "7"
    assert id_text(1.5) == "1.5"
    assert id_text(UUID(int=1)) == "00000000-0000-0000-0000-000000000001"


def test_the_hash_is_blake2b_keyed_at_any_key_length() -> None:
    salt = hashlib.blake2b(b"user.id", digest_size=16).digest()
    expected = hashlib.blake2b(
        b"x", digest_size=16, key=b"k", salt=salt, person=b"bodytrace id v2"
    ).hexdigest()
    assert id_hasher("user.id", b"k")("x") == expected
    assert id_hasher("user.id", b"k" * 100)("x") != id_hasher("user.id", b"k" * 64)("x")


def test_one_key_serves_each_purpose_and_attribute_by_another_hash() -> None:
    made = {
        id_hasher("user.id", b"k")("A"),
        id_hasher("order.id", b"k")("A"),
        f"{derive_trace_id('A', 'k'):032x}",
    }
    assert len(made) == 3


# In a request


def test_every_source_and_the_first_that_yields_wins(
    make_app: Callable[..., Flask], spans: Any
) -> None:
    app = make_app(
        ids={
            "order": ["path:order_id", "orderId"],
            "user": ["header:X-User-ID", "query:user", "userId"],
            "page": ["query:page"],
        }
    )

    @app.post("/orders/<int:order_id>")
    @app.post("/orders")
    def create(order_id: int | None = None) -> dict[str, str]:
        assert order_id in {7, None}
        return dict(g.trace.ids)

    client = app.test_client()
    body = {"orderId": "B1", "userId": "B2"}
    assert client.post("/orders/7?page=%31", json=body, headers={"X-User-ID": "H"}).json == {
        "order": "7",
        "user": "H",
        "page": "1",
    }
    assert client.post("/orders?user=Q&user=R", json=body).json == {"order": "B1", "user": "Q"}
    assert client.post("/orders?xuser=Q", json=body).json == {"order": "B1", "user": "B2"}
    for span, order in zip(spans.all, ["7", "B1", "B1"], strict=True):
        assert span.attributes["order"] == order


def test_a_sampler_sees_the_ids() -> None:
    class OnlyVip(Sampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
            attributes = args[4] if len(args) > 4 else kwargs["attributes"]
            if attributes.get("user.id") == "vip":
                return ALWAYS_ON.should_sample(*args, **kwargs)
            return SamplingResult(Decision.DROP)

        def get_description(self) -> str:
            return "OnlyVip"

    provider = TracerProvider(sampler=OnlyVip(), shutdown_on_exit=False)
    app = Flask("vip")
    BodyTrace(app, tracer_provider=provider, ids="user.id=userId")

    @app.post("/")
    def view() -> dict[str, Any]:
        return {"sampled": g.trace.sampled, "ids": dict(g.trace.ids)}

    client = app.test_client()
    assert client.post("/", json={"userId": "vip"}).json == {
        "sampled": True,
        "ids": {"user.id": "vip"},
    }
    assert client.post("/", json={"userId": "u"}).json == {
        "sampled": False,
        "ids": {"user.id": "u"},
    }


def test_hashed_ids_never_appear_in_the_clear(make_app: Callable[..., Flask], spans: Any) -> None:
    app = make_app(ids="user.id=userId", id_hash="user.id", hash_key="k", baggage=True)
    seen: list[object] = []

    @app.post("/")
    def view() -> dict[str, str]:
        seen.append(baggage.get_baggage("user.id"))
        return dict(g.trace.ids)

    expected = id_hasher("user.id", b"k")("4711")
    assert app.test_client().post("/", json={"userId": 4711}).json == {"user.id": expected}
    assert spans.server().attributes["user.id"] == expected
    assert seen == [expected]
    assert "4711" not in spans.server().to_json()


def test_baggage_carries_the_ids_of_the_url_too(make_app: Callable[..., Flask]) -> None:
    app = make_app(ids="a=orderId,b=path:b", baggage=True)

    @app.post("/<b>")
    def view(b: str) -> str:
        del b
        return str(g.trace.headers()["baggage"])

    assert app.test_client().post("/x", json={"orderId": 1}).text == "a=1,b=x"


class _Unpredictable(Sampler):
    """Takes the decision in a way that only the SDK can follow."""

    def __init__(self, inner: Sampler) -> None:
        self.inner = inner

    def should_sample(self, *args: Any, **kwargs: Any) -> SamplingResult:
        return self.inner.should_sample(*args, **kwargs)

    def get_description(self) -> str:
        return "unpredictable"


@pytest.mark.parametrize("ids", ["a=orderId", "a=orderId,b=path:b"])
@pytest.mark.parametrize(
    "sampler",
    [ALWAYS_ON, ALWAYS_OFF, _Unpredictable(ALWAYS_ON), _Unpredictable(ALWAYS_OFF)],
    ids=["fast", "fast unsampled", "sdk", "sdk unsampled"],
)
def test_baggage_carries_the_ids_whoever_makes_the_span(sampler: Sampler, ids: str) -> None:
    app = Flask(__name__)
    provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    BodyTrace(app, tracer_provider=provider, ids=ids, baggage=True)
    app.add_url_rule("/<b>", "view", lambda **_: dict(baggage.get_all()), methods=["POST"])
    expected = {"a": "1", "b": "2"} if "path" in ids else {"a": "1"}
    for headers in ({}, {"traceparent": f"00-{'1' * 32}-{'2' * 16}-01"}, {"baggage": "c=3"}):
        more = {"c": "3"} if "baggage" in headers else {}
        answer = app.test_client().post("/2", json={"orderId": 1}, headers=headers)
        assert answer.json == expected | more
    assert baggage.get_all() == {}


def test_baggage_is_off_unless_asked_for(make_app: Callable[..., Flask]) -> None:
    app = make_app(ids="orderId")
    app.add_url_rule("/", view_func=lambda: dict(g.trace.headers()), methods=["POST"])
    assert set(app.test_client().post("/", json={"orderId": 1}).json or ()) == {"traceparent"}


def test_a_lookup_that_fails_is_logged_once_and_gives_no_id(
    make_app: Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(IdSources, "find", fail)
    app = make_app(ids="a=query:a")
    app.add_url_rule("/", view_func=lambda: dict(g.trace.ids))
    for _ in range(2):
        assert app.test_client().get("/").json == {}
    reports = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(reports) == 1
    assert "'ids'" in reports[0].getMessage()


@pytest.mark.parametrize(
    "environ",
    [
        {"CONTENT_TYPE": "text/plain"},
        {"CONTENT_TYPE": JSON, "HTTP_CONTENT_ENCODING": "gzip"},
        {"CONTENT_TYPE": JSON, "CONTENT_LENGTH": "2000"},
    ],
)
def test_a_body_that_cannot_hold_ids_is_not_read_for_them(
    make_app: Callable[..., Flask], environ: dict[str, str]
) -> None:
    class Untouched:
        def read(self, *_: object) -> bytes:
            raise AssertionError("the body was read")

    app = make_app(ids="a", id_scan_limit=1999)
    app.add_url_rule("/", view_func=lambda: dict(g.trace.ids), methods=["POST"])
    response = app.test_client().post(
        "/", environ_overrides={"CONTENT_LENGTH": "9", **environ, "wsgi.input": Untouched()}
    )
    assert response.json == {}


def test_ids_are_read_only(make_app: Callable[..., Flask]) -> None:
    app = make_app(ids="a")

    @app.post("/")
    def view() -> str:
        with pytest.raises(TypeError):
            g.trace.ids["b"] = "c"
        return ""

    assert app.test_client().post("/", json={"a": 1}).status_code == 200


# The trace id from a business key


def test_requests_on_one_order_share_one_trace(make_app: Callable[..., Flask], spans: Any) -> None:
    app = make_app(ids="order.id=orderId", trace_key="order.id", hash_key="k")
    app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
    client = app.test_client()
    for order in ("A", "A", "B"):
        client.post("/", json={"orderId": order})
    client.post("/", json={})
    contexts = [span.get_span_context() for span in spans.all]
    trace_ids = [context.trace_id for context in contexts]
    assert trace_ids[0] == trace_ids[1] == derive_trace_id("A", "k")
    assert len(set(trace_ids)) == 3
    assert all(span.parent is None for span in spans.all)
    assert [context.trace_flags.random_trace_id for context in contexts] == [
        False,
        False,
        False,
        True,
    ]


def test_a_caller_that_names_a_trace_keeps_it(make_app: Callable[..., Flask], spans: Any) -> None:
    app = make_app(ids="order.id=orderId", trace_key="order.id")
    app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
    client = app.test_client()
    for headers in (
        {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"},
        {"X-Trace-ID": "0af7651916cd43dd8448eb211c80319c"},
    ):
        client.post("/", json={"orderId": "A"}, headers=headers)
    for span in spans.all:
        assert span.get_span_context().trace_id == 0x0AF7651916CD43DD8448EB211C80319C


def test_a_trace_key_without_our_id_generator_is_refused() -> None:
    with pytest.raises(ConfigError, match="OTEL_PYTHON_ID_GENERATOR=bodytrace"):
        BodyTrace(
            Flask("other"),
            tracer_provider=TracerProvider(shutdown_on_exit=False),
            ids="orderId",
            trace_key="orderId",
        )
