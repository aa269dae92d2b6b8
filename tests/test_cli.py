from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from opentelemetry import propagate
from opentelemetry.instrumentation.flask import FlaskInstrumentor
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.propagators.composite import CompositePropagator
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NoOpTracerProvider

from flask_bodytrace import BodyTrace, BusinessIdGenerator
from flask_bodytrace.cli import bodytrace

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SHOP = """
from flask import Flask
from flask_bodytrace import BodyTrace

app = Flask(__name__)
app.config["BODYTRACE_IDS"] = "order.id=orderId,order.id=path:order_id,user.id=header:X-User"
app.config["BODYTRACE_HASH_KEY"] = "hunter2"
BodyTrace(app, trace_key="order.id", excluded_urls="/health")


@app.post("/orders")
def create():
    return ""


@app.get("/orders/<order_id>")
def show(order_id):
    return ""


@app.get("/health")
def health():
    return ""
"""


@pytest.fixture
def flask(tmp_path: Path) -> Run:
    """Run the real ``flask`` command on an application of its own."""
    (tmp_path / "shop.py").write_text(SHOP)
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "FLASK_"))
    }

    def run(*arguments: str, app: str = "shop", **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "flask", "--app", app, *arguments],
            cwd=tmp_path,
            env={**clean, **environ},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def table(output: str) -> dict[str, list[str]]:
    rows = [re.split(r"\s{2,}", line.strip()) for line in output.splitlines()]
    return {row[0]: row[1:] for row in rows}


def test_config_prints_values_and_where_they_came_from(flask: Run) -> None:
    done = flask("bodytrace", "config", FLASK_BODYTRACE_BODY_LIMIT="1MiB")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert rows["BODYTRACE_BODY_LIMIT"] == [
        "1048576 B",
        "environment variable FLASK_BODYTRACE_BODY_LIMIT",
    ]
    assert rows["BODYTRACE_IDS"] == [
        "order.id=orderId,order.id=path:order_id,user.id=header:X-User",
        "app.config['BODYTRACE_IDS']",
    ]
    assert rows["BODYTRACE_TRACE_KEY"] == ["order.id", "keyword trace_key"]
    assert rows["BODYTRACE_METRICS"] == ["on", "default"]
    assert rows["BODYTRACE_HASH_KEY"] == ["(set, hidden)", "app.config['BODYTRACE_HASH_KEY']"]
    assert rows["BODYTRACE_VIEWER_TOKEN"] == ["(not set)", "default"]
    assert "hunter2" not in done.stdout + done.stderr


def test_check_ends_with_1_and_says_why(flask: Run) -> None:
    done = flask("bodytrace", "check")
    assert done.returncode == 1
    assert done.stdout.startswith("error: no exporter: ")
    assert "OTEL_TRACES_EXPORTER" in done.stdout


def test_check_is_content_with_an_exporter(flask: Run) -> None:
    done = flask("bodytrace", "check", OTEL_TRACES_EXPORTER="console")
    assert (done.returncode, done.stdout) == (0, "ok\n"), done.stderr


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"FLASK_BODYTRACE_BODY_LIMIT": "banana"}, ["BODYTRACE_BODY_LIMIT", "'banana'", "16MiB"]),
        (
            {"FLASK_BODYTRACE_BODY_LIMTI": "1"},
            [
                "unknown setting FLASK_BODYTRACE_BODY_LIMTI;",
                "did you mean FLASK_BODYTRACE_BODY_LIMIT",
            ],
        ),
        ({"OTEL_TRACES_EXPORTER": "jaegre"}, ["OTEL_TRACES_EXPORTER='jaegre'", "not installed"]),
        ({"OTEL_PYTHON_ID_GENERATOR": "random"}, ["BODYTRACE_TRACE_KEY", "id generator"]),
    ],
)
def test_what_init_app_refuses_is_told_without_a_traceback(
    flask: Run, environ: dict[str, str], words: list[str]
) -> None:
    done = flask("bodytrace", "check", **environ)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr


def test_trace_id_is_the_one_the_request_gets(flask: Run, tmp_path: Path) -> None:
    done = flask("bodytrace", "trace-id", "ORD123456")
    assert re.fullmatch(r"[0-9a-f]{32}\n", done.stdout)
    asked = (
        "from shop import app\n"
        "print(app.test_client().post('/orders', json={'orderId': 'ORD123456'})"
        ".headers['X-Trace-ID'])"
    )
    answered = subprocess.run(
        [sys.executable, "-c", asked], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert answered.stdout == done.stdout


def test_routes_shows_what_is_excluded_and_which_ids_can_come(flask: Run) -> None:
    done = flask("bodytrace", "routes")
    assert done.returncode == 0, done.stderr
    rows = table(done.stdout)
    assert rows["/orders"] == [
        "POST",
        "yes",
        "order.id (body:orderId), user.id (header:X-User)",
    ]
    assert rows["/orders/<order_id>"] == [
        "GET",
        "yes",
        "order.id (path:order_id), user.id (header:X-User)",
    ]
    assert rows["/health"] == ["GET", "excluded"]


@pytest.mark.parametrize("command", [["config"], ["check"], ["routes"], ["trace-id", "x"]])
def test_an_application_without_the_extension_is_told(command: list[str]) -> None:
    result = Flask("plain").test_cli_runner().invoke(bodytrace, command)
    assert result.exit_code == 1
    assert result.output == (
        "Error: the application 'plain' has no BodyTrace: call BodyTrace(app), or init_app(app) in "
        "its factory\n"
    )


def test_flasks_own_commands_are_left_in_peace(flask: Run, tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text("from flask import Flask\napp = Flask('plain')")
    done = flask("routes", app="plain")
    assert (done.returncode, done.stderr) == (0, "")


def test_loading_the_group_loads_no_exporter_viewer_or_client() -> None:
    code = (
        "import sys, flask_bodytrace.cli\n"
        "names = ('viewer', 'checks', 'testing', 'logs', 'capture.documents', 'wsgi', 'client')\n"
        "print([name for name in names if f'flask_bodytrace.{name}' in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# What check finds, through Flask's own runner.


@pytest.fixture
def exporting(monkeypatch: pytest.MonkeyPatch) -> TracerProvider:
    # Other tests of this process may have set a global one, which check would speak of.
    monkeypatch.setattr("opentelemetry.trace._TRACER_PROVIDER", None)
    provider = TracerProvider(id_generator=BusinessIdGenerator())
    provider.add_span_processor(SimpleSpanProcessor(InMemorySpanExporter()))
    return provider


def check(provider: Any, config: dict[str, Any] | None = None, **settings: Any) -> Result:
    app = Flask("shop")
    app.config.update(config or {})
    BodyTrace(app, tracer_provider=provider, **settings)
    return app.test_cli_runner().invoke(bodytrace, ["check"])


def test_check_ok(exporting: TracerProvider) -> None:
    result = check(exporting)
    assert (result.exit_code, result.output) == (0, "ok\n")


def test_check_finds_a_limit_that_never_counts(exporting: TracerProvider) -> None:
    result = check(exporting, {"MAX_CONTENT_LENGTH": 1000})
    assert result.exit_code == 0
    assert "BODYTRACE_BODY_LIMIT (16777216) is above MAX_CONTENT_LENGTH (1000)" in result.output
    assert result.output.endswith("ok: nothing that must be mended\n")
    result = check(exporting, body_limit=1000)
    assert "BODYTRACE_MEMORY_LIMIT (1048576) is above BODYTRACE_BODY_LIMIT (1000)" in result.output


@pytest.mark.parametrize(
    ("provider", "words"),
    [
        (NoOpTracerProvider(), "NoOpTracerProvider: no span is recorded"),
        (TracerProvider(), "no exporter"),
        (TracerProvider(sampler=ALWAYS_OFF), "the sampler is always_off"),
    ],
)
def test_check_finds_that_nothing_is_recorded(provider: Any, words: str) -> None:
    result = check(provider)
    assert result.exit_code == 1
    assert words in result.output
    assert all(line.startswith(("error: ", "warning: ")) for line in result.output.splitlines())


def test_check_finds_that_what_is_kept_goes_nowhere() -> None:
    result = check(TracerProvider(), keep="errors")
    assert result.exit_code == 1
    assert result.output.startswith("error: no exporter: ")


def test_check_finds_a_disabled_sdk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    result = check(TracerProvider())
    assert result.exit_code == 1
    assert "OTEL_SDK_DISABLED" in result.output


def test_check_finds_a_second_instrumentation(exporting: TracerProvider) -> None:
    app = Flask("shop")
    BodyTrace(app, tracer_provider=exporting)
    FlaskInstrumentor().instrument_app(app, tracer_provider=exporting)  # type: ignore[no-untyped-call]
    try:
        result = app.test_cli_runner().invoke(bodytrace, ["check"])
    finally:
        FlaskInstrumentor().uninstrument_app(app)  # type: ignore[no-untyped-call]
    assert "OpenTelemetry's Flask instrumentation is on as well" in result.output

    app = Flask("shop")
    BodyTrace(app, tracer_provider=exporting)
    app.wsgi_app = OpenTelemetryMiddleware(app.wsgi_app)  # type: ignore[method-assign]
    result = app.test_cli_runner().invoke(bodytrace, ["check"])
    assert "OpenTelemetryMiddleware is around the application as well" in result.output


def test_check_finds_that_nobody_takes_spans(
    exporting: TracerProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
        assert check(exporting).exit_code == 0
    result = check(exporting)
    assert result.exit_code == 1
    assert f"nobody takes spans at 127.0.0.1:{port}" in result.output


def test_check_finds_a_context_that_goes_nowhere(
    exporting: TracerProvider,
) -> None:
    before = propagate.get_global_textmap()
    propagate.set_global_textmap(CompositePropagator([]))
    try:
        result = check(exporting, baggage=True)
    finally:
        propagate.set_global_textmap(before)
    assert "no caller's trace is continued" in result.output
    assert "BODYTRACE_BAGGAGE is on" in result.output


def test_check_warns_of_what_others_could_see(exporting: TracerProvider) -> None:
    result = check(exporting, ids="order.id=orderId", trace_key="order.id", capture_body="always")
    assert "whoever guesses an id" in result.output
    assert "BODYTRACE_REDACT" in result.output


def test_check_says_that_all_is_off(exporting: TracerProvider) -> None:
    result = check(exporting, enabled=False)
    assert result.exit_code == 0
    assert "BODYTRACE_ENABLED is off" in result.output


def test_trace_id_of_a_hashed_id_is_the_one_the_request_gets() -> None:
    app = Flask("shop")
    BodyTrace(
        app,
        tracer_provider=TracerProvider(id_generator=BusinessIdGenerator()),
        ids="order.id=orderId",
        id_hash="order.id",
        hash_key="k",
        trace_key="order.id",
    )
    app.add_url_rule("/", view_func=lambda: "", methods=["POST"])
    answer = app.test_client().post("/", json={"orderId": "ORD1"})
    result = app.test_cli_runner().invoke(bodytrace, ["trace-id", "ORD1"])
    assert result.output.strip() == answer.headers["X-Trace-ID"]


def test_trace_id_warns_where_ids_are_random() -> None:
    app = Flask("shop")
    BodyTrace(app, tracer_provider=TracerProvider())
    result = app.test_cli_runner().invoke(bodytrace, ["trace-id", "ORD1"])
    assert result.exit_code == 0
    assert "BODYTRACE_TRACE_KEY is not set" in result.stderr


def test_routes_knows_patterns_of_converters() -> None:
    app = Flask("shop")
    BodyTrace(
        app,
        tracer_provider=TracerProvider(),
        excluded_urls=r"/users/\d+$,/files/[0-9a-f-]{36}$,/(de|en)/terms",
    )
    for rule in ("/users/<int:n>", "/files/<uuid:f>", "/<any(de, fr):lang>/terms", "/x/<path:p>"):
        app.add_url_rule(rule, endpoint=rule)
    rows = table(app.test_cli_runner().invoke(bodytrace, ["routes"]).output)
    assert {rule: row[1] for rule, row in rows.items() if rule[0] == "/"} == {
        "/users/<int:n>": "excluded",
        "/files/<uuid:f>": "excluded",
        "/<any(de, fr):lang>/terms": "excluded",
        "/x/<path:p>": "yes",
        "/static/<path:filename>": "yes",
    }
