from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
import requests
from flask import Flask, Response, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram
from werkzeug.test import EnvironBuilder, create_environ, run_wsgi_app

from flask_bodytrace.trace.attributes import METHODS
from flask_bodytrace.trace.metrics import DURATION_BUCKETS
from tests import conftest as shop

if TYPE_CHECKING:
    from tests.conftest import Figures, MakeApp, Serve

# The fixtures of the whole folder of tests, not this folder's own.
figures = shop.figures
make_app = shop.make_app
provider = shop.provider
serve = shop.serve
spans = shop.spans

DURATION = "http.server.request.duration"
ACTIVE = "http.server.active_requests"
SIZE = "http.server.request.body.size"


def routes(app: Flask) -> Flask:
    @app.route("/orders/<order_id>", methods=["GET", "POST"])
    def order(order_id: str) -> str:
        return f"{order_id}: {len(request.get_data())}"

    @app.get("/fail")
    def fail() -> str:
        raise LookupError("no stock")

    @app.get("/stream")
    def stream() -> Response:
        def chunks() -> Iterator[bytes]:
            for _ in range(1000):
                yield b"x" * 10_000

        return Response(chunks())

    return app


@pytest.fixture
def app(make_app: MakeApp, figures: Figures) -> Flask:
    return routes(make_app(meter_provider=figures.provider))


def test_duration_has_the_conventions_name_unit_buckets_and_attributes(
    app: Flask, figures: Figures
) -> None:
    app.test_client().post("/orders/1", data=b"12345")
    metric = figures.all()[DURATION]
    (point,) = metric.data.data_points
    assert metric.unit == "s"
    assert tuple(point.explicit_bounds) == DURATION_BUCKETS
    assert dict(point.attributes) == {
        "http.request.method": "POST",
        "url.scheme": "http",
        "http.response.status_code": 200,
        "http.route": "/orders/<order_id>",
        "network.protocol.version": "1.1",
    }
    assert point.count == 1
    assert 0 < point.sum < 10


def test_active_requests_are_counted_while_they_run(app: Flask, figures: Figures) -> None:
    seen: list[float] = []

    @app.get("/look")
    def look() -> str:
        seen.append(figures.value(ACTIVE, http__request__method="GET", url__scheme="http"))
        return ""

    app.test_client().get("/look")
    assert seen == [1]
    assert figures.value(ACTIVE) == 0
    assert figures.all()[ACTIVE].unit == "{request}"
    assert {frozenset(point.attributes) for point in figures.points(ACTIVE)} == {
        frozenset({"http.request.method", "url.scheme"})
    }


def test_applications_of_one_process_are_counted_together(
    make_app: MakeApp, figures: Figures
) -> None:
    # A meter asks those who registered an instrument first, and nobody after them.
    seen: list[float] = []
    inner, outer = (make_app(meter_provider=figures.provider) for _ in range(2))

    @inner.get("/")
    def look() -> str:
        seen.append(figures.value(ACTIVE))
        return ""

    @outer.get("/")
    def ask() -> str:
        seen.append(figures.value(ACTIVE))
        return inner.test_client().get("/").text

    outer.test_client().get("/")
    assert seen == [1, 2]
    assert figures.value(ACTIVE) == 0


def test_body_size_is_in_bytes_and_only_of_requests_with_a_body(
    app: Flask, figures: Figures
) -> None:
    client = app.test_client()
    client.get("/orders/1")
    client.post("/orders/1", data=b"12345")
    metric = figures.all()[SIZE]
    assert metric.unit == "By"
    assert [(point.count, point.sum) for point in metric.data.data_points] == [(1, 5)]


def test_error_type_is_the_exception_or_the_status(app: Flask, figures: Figures) -> None:
    @app.get("/unavailable")
    def unavailable() -> tuple[str, int]:
        return "", 503

    app.config["PROPAGATE_EXCEPTIONS"] = False
    client = app.test_client()
    for path in ("/fail", "/unavailable", "/missing"):
        client.get(path)
    found = {
        (
            point.attributes.get("http.route"),
            point.attributes["http.response.status_code"],
            point.attributes.get("error.type"),
        )
        for point in figures.points(DURATION)
    }
    assert found == {
        ("/fail", 500, "LookupError"),
        ("/unavailable", 503, "503"),
        (None, 404, None),
    }


# T08
def test_active_requests_do_not_leak_on_exceptions(app: Flask, figures: Figures) -> None:
    @app.after_request
    def broken(response: Response) -> Response:
        if "Break" in request.headers:
            raise KeyError("after")
        return response

    client = app.test_client()
    app.testing = True
    for _ in range(3):
        with pytest.raises(LookupError):
            client.get("/fail")
    app.testing = False
    client.get("/fail")
    client.get("/orders/1", headers={"Break": "yes"})
    assert figures.value(ACTIVE) == 0
    assert sum(point.count for point in figures.points(DURATION)) == 5


# T08
def test_active_requests_do_not_leak_when_nobody_reads_the_answer(
    app: Flask, figures: Figures
) -> None:
    client = app.test_client()
    never_iterated = client.get("/stream")
    assert figures.value(ACTIVE) == 1
    never_iterated.close()
    assert figures.value(ACTIVE) == 0
    half = client.get("/stream")
    next(half.iter_encoded())
    half.close()
    half.close()
    assert figures.value(ACTIVE) == 0


# T08
def test_active_requests_do_not_leak_when_a_server_forgets_to_close(
    app: Flask, figures: Figures
) -> None:
    answer = app.wsgi_app(create_environ("/stream"), lambda *_: lambda _data: None)
    assert figures.value(ACTIVE) == 1
    del answer
    # The next request ends it: where a destructor runs, nothing may be done but to take note.
    complete: Any = app.wsgi_app(create_environ("/"), lambda *_: lambda _data: None)
    complete.close()
    assert figures.value(ACTIVE) == 0


# T08
def test_active_requests_do_not_leak_when_the_client_leaves(
    app: Flask, figures: Figures, serve: Serve
) -> None:
    closed = threading.Event()
    inner = app.wsgi_app

    def watched(environ: Any, start_response: Any) -> Any:
        answer = inner(environ, start_response)

        class Watched:
            def __iter__(self) -> Iterator[bytes]:
                return iter(answer)

            def close(self) -> None:
                answer.close()  # type: ignore[attr-defined]
                closed.set()

        return Watched()

    port = serve(watched)
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        client.recv(10)
    assert closed.wait(10)
    assert figures.value(ACTIVE) == 0


anything = st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=20)


# T11
def test_series_stay_bounded_whatever_clients_send(make_app: MakeApp, figures: Figures) -> None:
    app = routes(make_app(meter_provider=figures.provider))

    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(
        path=anything,
        body=st.binary(max_size=50),
        environ=st.fixed_dictionaries(
            {
                "REQUEST_METHOD": st.one_of(st.sampled_from(sorted(METHODS)), anything),
                "wsgi.url_scheme": st.one_of(st.sampled_from(["http", "https"]), anything),
                "SERVER_PROTOCOL": st.one_of(st.sampled_from(["HTTP/1.1", "HTTP/2"]), anything),
                "HTTP_HOST": anything,
                "QUERY_STRING": anything,
                "HTTP_USER_AGENT": anything,
                "CONTENT_TYPE": anything,
            }
        ),
    )
    def send(path: str, body: bytes, environ: dict[str, str]) -> None:
        url = f"/orders/{quote(path)}"
        # Not by the test client: that of Werkzeug 3.0 fails at some hosts itself.
        builder = EnvironBuilder(path=url, method="POST", data=body)
        run_wsgi_app(app, {**builder.get_environ(), **environ}, buffered=True)

    send()
    values: dict[str, set[Any]] = {}
    for name in (DURATION, ACTIVE, SIZE):
        for point in figures.points(name):
            for key, value in point.attributes.items():
                values.setdefault(key, set()).add(value)
    assert values.pop("http.request.method") <= METHODS | {"_OTHER"}
    assert values.pop("url.scheme") <= {"http", "https", "_OTHER"}
    assert values.pop("http.route") == {"/orders/<order_id>"}
    assert values.pop("network.protocol.version") <= {"1.0", "1.1", "2", "3"}
    assert len(values.pop("http.response.status_code")) < 10
    assert values.keys() <= {"error.type"}
    assert len(values.pop("error.type", set())) < 5
    assert figures.value(ACTIVE) == 0


def test_figures_of_bodies(make_app: MakeApp, figures: Figures, serve: Serve) -> None:
    app = make_app(
        meter_provider=figures.provider, memory_limit="256KiB", body_limit="1MiB", over_limit="pass"
    )
    strict = make_app(meter_provider=figures.provider, body_limit="1KiB", over_limit="reject")
    for each in (app, strict):

        @each.post("/")
        def length() -> str:
            chunks = iter(lambda: request.stream.read(65536), b"")
            return str(sum(len(chunk) for chunk in chunks))

    url = f"http://127.0.0.1:{serve(app)}/"
    # Kept in a pooled buffer twice, in a file, not at all.
    for size in (200_000, 200_000, 300_000, 2_000_000):
        assert requests.post(url, data=b"x" * size, timeout=10).text == str(size)
    assert strict.test_client().post("/", data=b"x" * 2000).status_code == 413
    events = "bodytrace.body.events"
    assert {
        event: figures.value(events, event=event) for event in ("spilled", "passed", "rejected")
    } == {"spilled": 1, "passed": 1, "rejected": 1}
    data = figures.all()
    assert figures.value("bodytrace.pool.misses") == 1
    assert figures.value("bodytrace.pool.hits") == 1
    assert figures.value("bodytrace.pool.kept") == 262_144
    assert data["bodytrace.pool.hits"].unit == "{buffer}"
    assert data["bodytrace.pool.kept"].unit == "By"


def test_pools_of_all_applications_are_summed(make_app: MakeApp, figures: Figures) -> None:
    apps = [make_app(meter_provider=figures.provider) for _ in range(2)]
    for number, each in enumerate(apps):
        state = each.extensions["bodytrace"]
        state.plan.bodies.pool.hits = 10 + number
        state.plan.bodies.pool.kept_bytes = 100
    assert figures.value("bodytrace.pool.hits") == 21
    assert figures.value("bodytrace.pool.kept") == 200


def test_off_records_nothing(make_app: MakeApp, figures: Figures) -> None:
    app = routes(make_app(meter_provider=figures.provider, metrics=False))
    app.test_client().get("/orders/1")
    assert figures.all() == {}


def test_a_disabled_meter_provider_is_asked_nothing(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    provider = MeterProvider()
    monkeypatch.delenv("OTEL_SDK_DISABLED")
    app = routes(make_app(meter_provider=provider))
    assert app.test_client().get("/orders/1").status_code == 200
    assert not app.extensions["bodytrace"].plan.metrics.is_recording()


GLOBAL = """
from flask import Flask
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from flask_bodytrace import BodyTrace

app = Flask("shop")
BodyTrace(app)
plan = app.extensions["bodytrace"].plan
built = []
plan.metrics.finished = lambda *a, f=plan.metrics.finished, **k: (built.append(a), f(*a, **k))
reader = InMemoryMetricReader()

@app.get("/")
def index():
    return ""

@app.get("/later")
def later():
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    return ""

client = app.test_client()
client.get("/")
assert not built, "no provider: nothing may be made up for one"
client.get("/later")
client.get("/")
client.get("/")
found = {
    metric.name: [getattr(point, "count", None) or point.value for point in metric.data.data_points]
    for scope in reader.get_metrics_data().resource_metrics[0].scope_metrics
    for metric in scope.metrics
}
assert found["http.server.request.duration"] == [2], found
assert found["http.server.active_requests"] == [0], found
assert found["bodytrace.pool.hits"] == [0], found
"""


def test_instruments_work_as_soon_as_a_global_provider_is_set() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", GLOBAL], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_prometheus_can_scrape_them(make_app: MakeApp) -> None:
    import prometheus_client
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

    provider = MeterProvider(metric_readers=[PrometheusMetricReader()])
    try:
        app = routes(make_app(meter_provider=provider))
        app.test_client().post("/orders/1", data=b"12345")
        scraped = prometheus_client.generate_latest().decode()
    finally:
        provider.shutdown()
    line = next(
        line
        for line in scraped.splitlines()
        if line.startswith("http_server_request_duration_seconds_bucket") and 'le="10.0"' in line
    )
    assert 'http_route="/orders/<order_id>"' in line
    assert line.endswith(" 1.0")
    assert "http_server_active_requests" in scraped
    assert "bodytrace_pool_kept_bytes" in scraped


def test_the_types_of_instruments(app: Flask, figures: Figures) -> None:
    app.test_client().post("/orders/1", data=b"12345")
    assert isinstance(figures.all()[DURATION].data, Histogram)
    assert isinstance(figures.all()[SIZE].data, Histogram)
    assert not figures.all()[ACTIVE].data.is_monotonic
