"""The viewer inside an application."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import pytest
import requests
from flask import Flask, abort
from flask.testing import FlaskClient
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link

from flask_bodytrace import BodyTrace

PATH = "/_bodytrace/"


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(exporter: InMemorySpanExporter) -> TracerProvider:
    made = TracerProvider(resource=Resource.create({"service.name": "orders"}))
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made


def make_app(provider: TracerProvider, name: str = "orders", **settings: Any) -> Flask:
    app = Flask(name)
    app.debug = True
    app.config["PROPAGATE_EXCEPTIONS"] = False
    settings.setdefault("viewer", "on")
    BodyTrace(app, tracer_provider=provider, ids="order.id=orderId", **settings)

    @app.post("/orders")
    def create() -> str:
        logging.getLogger("shop").warning("low stock of %s", "SKU-1")
        return "made"

    @app.get("/broken")
    def broken() -> str:
        raise RuntimeError("no such table: carts")

    return app


def changed(client: FlaskClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(client.get(f"{PATH}changed.json").data)["traces"]
    return found


def test_log_records_have_their_page_with_the_service_of_their_span(
    provider: TracerProvider,
) -> None:
    client = make_app(provider).test_client()
    client.post("/orders", json={"orderId": "ORD7"})
    logging.getLogger("shop").warning("of no span")
    page = client.get(f"{PATH}logs", query_string={"severity": "warn"}).text
    assert "low stock of SKU-1" in page
    assert "of no span" not in page
    assert '?severity=warn&amp;service=orders"' in page
    assert "POST /orders</bdi>" in page
    # It receives nothing: where metrics are is said, and no link leads there.
    assert f"{PATH}metrics" not in page
    assert "Only the viewer on its own takes metrics." in client.get(f"{PATH}metrics").text


def test_requests_show_with_their_ids_logs_and_exceptions(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    client.post("/orders", json={"orderId": "ORD7"})
    client.get("/broken")
    listed = client.get(PATH).text
    assert "POST /orders" in listed
    assert "ORD7" in listed
    shown = client.get(PATH, query_string={"q": "ORD7"}).text
    assert "GET /broken" not in shown
    (trace,) = [t for t in changed(client) if t["traceId"] in shown]
    page = client.get(f"{PATH}trace/{trace['traceId']}").text
    assert "logs <span>1</span>" in page
    href = page.partition("<li data-row")[2].partition('href="')[2].partition('"')[0]
    assert href.startswith(f"{PATH}trace/")
    assert "low stock of SKU-1" in client.get(href).text


def test_the_viewers_own_requests_reach_neither_tracing_nor_the_application(
    provider: TracerProvider, exporter: InMemorySpanExporter
) -> None:
    app = make_app(provider)
    seen: list[str] = []

    @app.before_request
    def closed() -> None:
        seen.append("before")
        abort(401)

    client = app.test_client()
    for path in ("", "map", "version", "changed.json", "static/viewer.css", "nowhere"):
        assert client.get(PATH + path).status_code in {200, 404}
    assert seen == []
    assert exporter.get_finished_spans() == ()
    assert client.post("/orders").status_code == 401
    assert seen == ["before"]
    assert len(exporter.get_finished_spans()) == 1


def test_paths_that_only_begin_alike_are_the_applications(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    assert "X-Trace-ID" in client.get("/_bodytraces").headers
    answer = client.get("/_bodytrace")
    assert (answer.status_code, answer.location) == (308, PATH)


def test_below_a_prefix_links_stay_below_it(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    client.post("/orders", json={"orderId": "ORD7"})
    page = client.get(PATH, environ_overrides={"SCRIPT_NAME": "/shop"}).text
    assert 'href="/shop/_bodytrace/trace/' in page


def test_in_front_of_what_was_wrapped_before(provider: TracerProvider) -> None:
    app = Flask("wrapped")
    app.debug = True
    inner = app.wsgi_app

    def wrapped(environ: Any, start_response: Any) -> Iterable[bytes]:
        environ["SEEN"] = True
        return inner(environ, start_response)

    app.wsgi_app = wrapped  # type: ignore[method-assign]
    BodyTrace(app, tracer_provider=provider, viewer="on")
    client = app.test_client()
    assert client.get(PATH).status_code == 200
    assert client.get("/x").status_code == 404


def test_a_post_in_an_application_is_not_received(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    assert client.post(f"{PATH}v1/traces", json={}).status_code == 404


def test_strangers_and_proxies_are_refused(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    for overrides in ({"REMOTE_ADDR": "10.0.0.9"}, {"HTTP_X_FORWARDED_FOR": "10.0.0.9"}):
        assert client.get(PATH, environ_overrides=overrides).status_code == 403
    assert client.get(PATH, headers={"Host": "shop.example"}).status_code == 403


def test_the_token_opens_it(provider: TracerProvider) -> None:
    client = make_app(provider, viewer_token="s3cret-of-length").test_client()
    sent_away = client.get(PATH, headers={"Accept": "text/html"})
    assert sent_away.location == f"{PATH}login"
    client.post(f"{PATH}login", data={"token": "s3cret-of-length"})
    assert client.get(PATH).status_code == 200


@pytest.mark.parametrize(
    ("viewer", "debug", "there"),
    [("auto", False, 404), ("auto", True, 200), ("on", False, 401), ("off", True, 404)],
)
def test_on_by_choice_only_outside_debug(
    provider: TracerProvider, viewer: Literal["auto", "on", "off"], debug: bool, there: int
) -> None:
    app = Flask("chosen")
    app.debug = debug
    BodyTrace(app, tracer_provider=provider, viewer=viewer)
    assert app.test_client().get(PATH).status_code == there


def test_outside_debug_it_asks_for_a_token_which_it_makes_and_logs(
    provider: TracerProvider, caplog: pytest.LogCaptureFixture
) -> None:
    app = Flask("served")
    BodyTrace(app, tracer_provider=provider, viewer="on")
    (said,) = [each.getMessage() for each in caplog.records if "asks for this token" in each.msg]
    token = said.partition("token: ")[2].split()[0]
    client = app.test_client()
    # A proxy that says nothing of itself looks like this machine.
    assert client.get(PATH).status_code == 401
    assert client.get(PATH, headers={"Authorization": f"Bearer {token}"}).status_code == 200


# T22
def test_two_applications_of_one_provider_share_a_picture(provider: TracerProvider) -> None:
    first, second = make_app(provider, "first"), make_app(provider, "second")
    first.test_client().post("/orders", json={"orderId": "ORD-first"})
    assert "ORD-first" in second.test_client().get(PATH).text
    assert changed(first.test_client())[0]["spans"] == 1


class RecordOnly(Sampler):
    """For processors that want every span; what is exported, and shown, is another matter."""

    def should_sample(self, *_: Any, **__: Any) -> SamplingResult:
        return SamplingResult(Decision.RECORD_ONLY)

    def get_description(self) -> str:
        return "record only"


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, RecordOnly()])
def test_what_is_not_sampled_is_not_shown(sampler: Sampler) -> None:
    client = make_app(TracerProvider(sampler=sampler)).test_client()
    client.post("/orders", json={"orderId": "ORD7"})
    assert changed(client) == []


def test_links_lead_to_traces_that_are_here(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    tracer = provider.get_tracer("t")
    with tracer.start_as_current_span("cause") as cause:
        pass
    with tracer.start_as_current_span("effect", links=[Link(cause.get_span_context())]) as effect:
        pass
    context = effect.get_span_context()
    page = client.get(f"{PATH}trace/{context.trace_id:032x}/span/{context.span_id:016x}").text
    assert f"{PATH}trace/{cause.get_span_context().trace_id:032x}#s-" in page


def test_a_span_that_no_encoding_can_write_is_shown_anyway(provider: TracerProvider) -> None:
    client = make_app(provider).test_client()
    with provider.get_tracer("t").start_as_current_span("half \ud800 pair"):
        pass
    assert "half ? pair" in client.get(PATH).text


def test_a_service_without_the_viewer_never_imports_it() -> None:
    program = """
import sys
from flask import Flask
from flask_bodytrace import BodyTrace
app = Flask("plain")
BodyTrace(app)
app.add_url_rule("/", view_func=lambda: "x")
assert app.test_client().get("/").status_code == 200
import flask_bodytrace.cli
print([name for name in sys.modules if name.startswith("flask_bodytrace.viewer")])
app = Flask("shown")
BodyTrace(app, viewer="on")
print("flask_bodytrace.viewer.pages" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:2] == ["[]", "True"]


def test_logging_itself_is_left_as_it_was(provider: TracerProvider) -> None:
    handlers = list(logging.getLogger().handlers)
    make_app(provider)
    assert logging.getLogger().handlers == handlers


APPLICATION = """
from flask import Flask
from flask_bodytrace import BodyTrace
app = Flask(__name__)
BodyTrace(app)

@app.get("/hello")
def hello():
    return "hello"
"""


@pytest.mark.parametrize(("flags", "status"), [(["--debug"], 200), ([], 404)])
def test_flask_debug_shows_it_without_a_setting(
    tmp_path: Path, flags: list[str], status: int
) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION)
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("FLASK_", "OTEL_"))
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "flask", "--app", "shop", *flags, "run", "--port", "0"]
        + (["--no-reload"] if flags else []),
        cwd=tmp_path,
        env={**environment, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        url = next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
        assert requests.get(f"{url}/hello", timeout=10).text == "hello"
        answer = requests.get(f"{url}{PATH}", timeout=10)
        assert answer.status_code == status
        assert ("GET /hello" in answer.text) is (status == 200)
    finally:
        process.kill()
        process.communicate()
