from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from typing import Any

import pytest
from flask import Flask

from flask_bodytrace import BodyTrace, BodyTraceError, ConfigError, Settings, current_trace
from flask_bodytrace.settings import keys, load

SHOP = """
from flask import Flask, g, request
from flask_bodytrace import BodyTrace
from flask_bodytrace.testing import capture_spans

app = Flask("shop")
BodyTrace(app)

@app.post("/orders")
def create():
    request.stream.read(1)
    return {"ids": dict(g.trace.ids), "replayable": g.trace.body.replayable}

with capture_spans() as spans:
    answer = app.test_client().post("/orders", json={"orderId": "ORD1"})
print(answer.status_code, answer.get_json(), sorted(answer.headers.keys()),
      [sorted(span.attributes) for span in spans.finished])
"""


def shop(**environ: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FLASK_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SHOP],
        env={**clean, **environ},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_settings_work_from_the_environment_alone() -> None:
    plain = shop()
    assert "200 {'ids': {}, 'replayable': True}" in plain
    assert "X-Trace-ID" in plain
    told = shop(
        FLASK_BODYTRACE_IDS="order.id=orderId",
        FLASK_BODYTRACE_BODY_LIMIT="5",
        FLASK_BODYTRACE_ID_SCAN_LIMIT="1KiB",
        FLASK_BODYTRACE_RESPONSE_HEADERS="traceresponse",
    )
    # Over the limit: passed on, not kept, not searched for ids.
    assert "200 {'ids': {}, 'replayable': False}" in told
    assert "X-Trace-ID" not in told
    assert "traceresponse" in told
    assert "'order.id': 'ORD1'" in shop(FLASK_BODYTRACE_IDS="order.id=orderId")
    nested = shop(
        FLASK_BODYTRACE__IDS="order.id=orderId", FLASK_BODYTRACE__EXCLUDED_URLS="/nothing"
    )
    assert "'order.id': 'ORD1'" in nested


def test_off_by_the_environment_leaves_the_application_untouched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FLASK_BODYTRACE_ENABLED", "0")
    app = Flask("shop")
    before = (type(app), app.wsgi_app, app.request_class, app.app_ctx_globals_class)
    BodyTrace(app, enabled=True)
    assert (type(app), app.wsgi_app, app.request_class, app.app_ctx_globals_class) == before
    app.add_url_rule("/", view_func=lambda: str(current_trace()))
    answer = app.test_client().get("/")
    assert answer.text == "None"
    assert "X-Trace-ID" not in answer.headers


def test_what_counts_first_to_last() -> None:
    layers: list[tuple[Any, Any, dict[str, str], int, str]] = [
        ({}, {}, {}, 16 << 20, "default"),
        ({}, {"body_limit": 1}, {}, 1, "keyword body_limit"),
        (
            {"BODYTRACE_BODY_LIMIT": 2},
            {"body_limit": 1},
            {},
            2,
            "app.config['BODYTRACE_BODY_LIMIT']",
        ),
        (
            {"BODYTRACE": {"BODY_LIMIT": 3}, "BODYTRACE_BODY_LIMIT": 2},
            {"body_limit": 1},
            {},
            3,
            "app.config['BODYTRACE']['BODY_LIMIT']",
        ),
        (
            {"BODYTRACE": {"BODY_LIMIT": 3}},
            {"body_limit": 1},
            {"FLASK_BODYTRACE__BODY_LIMIT": "4"},
            4,
            "environment variable FLASK_BODYTRACE__BODY_LIMIT",
        ),
        (
            {"BODYTRACE_BODY_LIMIT": 2},
            {"body_limit": 1},
            {"FLASK_BODYTRACE_BODY_LIMIT": "5", "FLASK_BODYTRACE__BODY_LIMIT": "4"},
            5,
            "environment variable FLASK_BODYTRACE_BODY_LIMIT",
        ),
    ]
    for config, keywords, environ, value, source in layers:
        settings = load(config, keywords, environ)
        assert settings.body_limit == value
        assert settings.sources.get("body_limit", "default") == source


def test_a_value_that_a_stronger_layer_replaces_is_not_looked_at() -> None:
    settings = load({"BODYTRACE_BODY_LIMIT": "banana"}, {}, {"FLASK_BODYTRACE_BODY_LIMIT": "1"})
    assert settings.body_limit == 1


def test_flasks_own_prefixed_environment_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLASK_BODYTRACE_BODY_LIMIT", "1048576")
    monkeypatch.setenv("FLASK_BODYTRACE__HASH_KEY", "12345")
    app = Flask("shop")
    app.config.from_prefixed_env()
    BodyTrace(app)
    settings = app.extensions["bodytrace"].settings
    assert (settings.body_limit, settings.hash_key) == (1 << 20, "12345")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (
            {"FLASK_BODYTRACE_BODY_LIMIT": "banana"},
            [
                "BODYTRACE_BODY_LIMIT='banana'",
                "environment variable FLASK_BODYTRACE_BODY_LIMIT",
                "a number of bytes, such as 1048576, '64KiB' or '16MiB'",
            ],
        ),
        (
            {"FLASK_BODYTRACE_BODY_LIMTI": "1"},
            [
                "unknown setting FLASK_BODYTRACE_BODY_LIMTI;",
                "did you mean FLASK_BODYTRACE_BODY_LIMIT",
                "a number of bytes",
            ],
        ),
        (
            {"FLASK_BODYTRACE__CAPTURE_BODIES": "always"},
            ["did you mean FLASK_BODYTRACE__CAPTURE_BODY", "never, errors, server-errors, always"],
        ),
        ({"FLASK_BODYTRACE_BODY_LIMIT": "9" * 5000}, ["BODYTRACE_BODY_LIMIT='999", "a number of"]),
        ({"FLASK_BODYTRACE_BODY_LIMIT": "\u0663"}, ["BODYTRACE_BODY_LIMIT=", "a number of bytes"]),
        ({"FLASK_BODYTRACE_ENABLED": "perhaps"}, ["'perhaps'", "true or false"]),
        ({"FLASK_BODYTRACE_OVER_LIMIT": "drop"}, ["'drop'", "one of pass, reject"]),
        (
            {"FLASK_BODYTRACE_RESPONSE_HEADERS": "x-trace,y-trace"},
            ["any of x-trace, server-timing, traceresponse"],
        ),
        ({"FLASK_BODYTRACE_IDS": "order.id="}, ["BODYTRACE_IDS='order.id='", "path:name"]),
        ({"FLASK_BODYTRACE_IDS": "a=cookie:b"}, ["unknown kind 'cookie'", "query:"]),
        ({"FLASK_BODYTRACE_INCOMING": "trust"}, ["continue, link, ignore", "callable(environ)"]),
        ({"FLASK_BODYTRACE_ID_HASH": "x"}, ["BODYTRACE_ID_HASH names 'x'", "BODYTRACE_IDS"]),
        (
            {"FLASK_BODYTRACE_ID_HASH": "a", "FLASK_BODYTRACE_IDS": "a"},
            ["BODYTRACE_ID_HASH needs BODYTRACE_HASH_KEY"],
        ),
        ({"FLASK_BODYTRACE_TRACE_KEY": "x"}, ["BODYTRACE_TRACE_KEY='x' is none of"]),
        (
            {"FLASK_BODYTRACE_EXCLUDED_URLS": "("},
            ["BODYTRACE_EXCLUDED_URLS='('", "regular expressions; '(' is none"],
        ),
        (
            {"FLASK_BODYTRACE_RELAY_CALLS": "1", "FLASK_BODYTRACE_RESPONSE_HEADERS": ","},
            ["BODYTRACE_RELAY_CALLS needs BODYTRACE_RESPONSE_HEADERS"],
        ),
    ],
)
def test_mistakes_are_told_with_key_value_and_what_is_accepted(
    environ: dict[str, str], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, {}, environ)
    for word in words:
        assert word in str(refused.value)


@pytest.mark.parametrize(
    ("config", "keywords", "words"),
    [
        ({"BODYTRACE_BODYLIMIT": 1}, {}, ["did you mean BODYTRACE_BODY_LIMIT"]),
        ({"BODYTRACE": {"BODYLIMIT": 1}}, {}, ["app.config['BODYTRACE']['BODYLIMIT'];"]),
        ({}, {"bodylimit": 1}, ["unknown setting bodylimit; did you mean body_limit"]),
        ({}, {"body_limit": -1}, ["BODYTRACE_BODY_LIMIT=-1 (from keyword body_limit)"]),
        ({}, {"body_limit": True}, ["BODYTRACE_BODY_LIMIT=True"]),
        ({}, {"body_limit": 1.5}, ["BODYTRACE_BODY_LIMIT=1.5"]),
        ({}, {"ids": 5}, ["BODYTRACE_IDS=5"]),
        ({}, {"ids": "{broken"}, ["BODYTRACE_IDS='{broken'"]),
        ({}, {"redact": [1]}, ["BODYTRACE_REDACT=[1]", "names separated by commas"]),
        ({}, {"trace_key": 5}, ["BODYTRACE_TRACE_KEY=5", "a string"]),
        ({}, {"body_limit": "9" * 500 + "x"}, ["…"]),
    ],
)
def test_mistakes_in_python_are_told_too(
    config: dict[str, Any], keywords: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ConfigError) as refused:
        load(config, keywords, {})
    for word in words:
        assert word in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "environ",
    [
        {"FLASK_BODYTRACE_HASH_KEYS": "hunter2"},
        {"FLASK_BODYTRACE_VIEWER_TOKENS": "hunter2"},
        {"FLASK_BODYTRACE_SOMETHING_ELSE": "hunter2"},
    ],
)
def test_a_secret_is_not_shown_even_under_a_mistyped_name(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as refused:
        load({}, {}, environ)
    assert "hunter2" not in str(refused.value)


def test_a_malformed_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        load({"BODYTRACE_HASH_KEY": ["hunter2"]}, {}, {})
    assert "hunter2" not in str(refused.value)
    assert "BODYTRACE_HASH_KEY=(a secret)" in str(refused.value)


def test_secrets_do_not_show_in_a_repr() -> None:
    app = Flask("shop")
    BodyTrace(app, hash_key="hunter2", viewer_token="hunter2" * 3, ids="a", id_hash="a")
    state = app.extensions["bodytrace"]
    assert state.settings.hash_key == "hunter2"
    assert "hunter2" not in repr(state)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("1048576", 1 << 20), ("64KiB", 1 << 16), ("2 MB", 2_000_000), ("1g", 10**9)],
)
def test_sizes(text: str, size: int) -> None:
    assert load({}, {}, {"FLASK_BODYTRACE_MEMORY_LIMIT": text}).memory_limit == size


def test_rules_in_all_their_forms() -> None:
    expected = {"order.id": ["orderId", "path:order_id"], "userId": ["userId"]}
    for ids in (
        "order.id=orderId, order.id=path:order_id, userId",
        '{"order.id": ["orderId", "path:order_id"], "userId": "userId"}',
        {"order.id": ["orderId", "path:order_id"], "userId": "userId"},
        ["order.id=orderId", "order.id=path:order_id", "userId"],
    ):
        rules = load({}, {"ids": ids}, {}).ids
        assert {name: list(sources) for name, sources in rules.items()} == expected


def test_settings_are_read_once_and_frozen() -> None:
    app = Flask("shop")
    BodyTrace(app)
    settings = app.extensions["bodytrace"].settings
    app.config["BODYTRACE_BODY_LIMIT"] = 1
    assert settings.body_limit == 16 << 20
    with pytest.raises(FrozenInstanceError):
        settings.body_limit = 1


# T22
def test_a_second_init_is_refused_with_what_to_do() -> None:
    app = Flask("shop")
    BodyTrace(app)
    with pytest.raises(
        BodyTraceError, match="already attached to <Flask 'shop'>: call init_app once"
    ):
        BodyTrace(app)


def test_every_field_is_a_documented_key() -> None:
    names = {f"BODYTRACE_{field.name.upper()}" for field in fields(Settings)} - {
        "BODYTRACE_SOURCES"
    }
    assert set(keys()) == names
    for key, metadata in keys().items():
        assert metadata["doc"], key
        assert isinstance(metadata["default"], int) is (metadata["unit"] == "B") or isinstance(
            metadata["default"], bool
        )


@pytest.mark.parametrize("key", keys())
def test_an_empty_variable_counts_as_unset(key: str) -> None:
    assert load({}, {}, {f"FLASK_{key}": "", f"FLASK_{key.replace('_', '__', 1)}": ""}) == load({})


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ({"order.id": []}, "'order.id' has no source"),
        ("a=b;c=d", "separate ids by commas"),
        ("sku=items[0].sku", "'items.0.sku'"),
    ],
)
def test_rules_that_cannot_be_meant_are_said_in_words(ids: object, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({"BODYTRACE_IDS": ids})
    assert words in str(refused.value)


def test_a_short_token_is_refused_and_not_shown() -> None:
    with pytest.raises(ConfigError) as refused:
        load({"BODYTRACE_VIEWER_TOKEN": "hunter2"})
    assert "fewer than 16 characters" in str(refused.value)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("key", ["BODYTRACE_HASHKEY", "BODYTRACE_HASH_KEYS", "BODYTRACE_KEY_HASH"])
def test_no_value_is_shown_under_an_unknown_key(key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load({key: "hunter2"})
    assert "hunter2" not in str(refused.value)


def test_what_is_no_application_or_provider_is_said_in_words() -> None:
    with pytest.raises(ConfigError, match="BodyTrace takes a Flask application, not 'shop'"):
        BodyTrace("shop")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tracer_provider='otlp' is no TracerProvider"):
        BodyTrace(Flask("shop"), tracer_provider="otlp")  # type: ignore[arg-type]
