from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock

import pytest
import requests
import structlog
from flask import Flask, Response, request, stream_with_context
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import format_span_id
from werkzeug.serving import make_server

from flask_bodytrace import current_trace, logs

if TYPE_CHECKING:
    from flask_bodytrace.testing import SpanRecorder
    from tests.conftest import MakeApp

FIELDS = {"otelTraceID", "otelSpanID", "otelTraceSampled", "otelServiceName"}
IDS = "order.id=orderId"


class Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def kept() -> Iterator[list[logging.LogRecord]]:
    """What a handler of one child logger gets; nothing is wired to it."""
    handler = Keeping()
    logger = logging.getLogger("shop.orders.deep")
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.records
    logger.removeHandler(handler)


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = logging.Logger.makeRecord
    # Applications of other tests in this process may have asked for it.
    logs.uninstall()
    yield
    logging.Logger.makeRecord = before  # type: ignore[method-assign]


def order(app: Flask, **extra: object) -> None:
    log = logging.getLogger("shop.orders.deep")

    @app.post("/orders")
    def create() -> str:
        log.info("created", extra=extra or None)
        return ""

    assert app.test_client().post("/orders", json={"orderId": "ORD1"}).status_code == 200


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    return {name: record.__dict__.get(name) for name in (*sorted(FIELDS), "order.id")}


def test_records_of_a_child_logger_say_trace_service_and_ids(
    make_app: MakeApp, spans: SpanRecorder, kept: list[logging.LogRecord]
) -> None:
    order(make_app(ids=IDS, logs=True))
    context = spans.one("POST /orders").get_span_context()
    assert context is not None
    assert fields_of(kept[0]) == {
        "otelTraceID": f"{context.trace_id:032x}",
        "otelSpanID": f"{context.span_id:016x}",
        "otelTraceSampled": True,
        "otelServiceName": "shop",
        "order.id": "ORD1",
    }


def test_the_span_is_the_current_one_not_only_the_servers(
    make_app: MakeApp,
    spans: SpanRecorder,
    kept: list[logging.LogRecord],
    provider: TracerProvider,
) -> None:
    app = make_app(logs=True)
    tracer = trace.get_tracer("test", tracer_provider=provider)

    @app.get("/")
    def charge() -> str:
        with tracer.start_as_current_span("charge"):
            logging.getLogger("shop.orders.deep").info("charging")
        return ""

    app.test_client().get("/")
    context = spans.one("charge").get_span_context()
    assert context is not None
    assert kept[0].__dict__["otelSpanID"] == format_span_id(context.span_id)


def test_a_record_outside_a_request_is_left_as_it_is(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    make_app(logs=True)
    logging.getLogger("shop.orders.deep").info("starting")
    assert not FIELDS & set(kept[0].__dict__)


@pytest.mark.parametrize("name", [*sorted(FIELDS), "order.id"])
def test_what_a_caller_puts_on_a_record_stays_and_does_not_raise(
    make_app: MakeApp, kept: list[logging.LogRecord], name: str
) -> None:
    order(make_app(ids=IDS, logs=True), **{name: "mine"})
    assert kept[0].__dict__[name] == "mine"
    assert set(kept[0].__dict__) >= FIELDS


def test_an_id_named_like_a_records_own_attribute_overwrites_nothing(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    order(make_app(ids="msg=orderId,name=orderId,args=orderId", logs=True))
    record = kept[0]
    assert (record.name, record.msg, record.getMessage()) == (
        "shop.orders.deep",
        "created",
        "created",
    )


def test_off_leaves_records_alone_also_beside_an_application_with_it_on(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    make_app(logs=True)
    order(make_app(ids=IDS))
    assert not FIELDS & set(kept[0].__dict__)


def test_several_applications_extend_logging_once_and_uninstall_undoes_it(
    make_app: MakeApp,
) -> None:
    original = logging.Logger.makeRecord
    make_app(logs=True)
    once = logging.Logger.makeRecord
    make_app(logs=True)
    assert once is not original
    assert logging.Logger.makeRecord is once
    logs.uninstall()
    assert logging.Logger.makeRecord is original


def test_other_extensions_of_logging_stay_whoever_came_first(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    seen: list[str] = []
    own = logging.getLogRecordFactory()

    def factory(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = own(*args, **kwargs)
        record.tenant = "t1"
        return record

    logging.setLogRecordFactory(factory)
    try:
        app = make_app(ids=IDS, logs=True)
        ours = logging.Logger.makeRecord

        def around(self: logging.Logger, *args: Any, **kwargs: Any) -> logging.LogRecord:
            seen.append("around")
            return ours(self, *args, **kwargs)

        logging.Logger.makeRecord = around  # type: ignore[method-assign]
        logs.uninstall()
        assert logging.Logger.makeRecord is around
        order(app)
    finally:
        logging.setLogRecordFactory(own)
    assert seen
    assert kept[0].__dict__["tenant"] == "t1"
    assert fields_of(kept[0])["order.id"] == "ORD1"


def test_a_filter_wired_by_hand_needs_no_setting(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    logger = logging.getLogger("shop.orders.deep")
    wired = logs.TraceLogFilter()
    logger.handlers[0].addFilter(wired)
    order(make_app(ids=IDS), otelTraceID="mine")
    assert kept[0].__dict__["otelTraceID"] == "mine"
    assert fields_of(kept[0])["order.id"] == "ORD1"


def test_structlog_events_get_the_same_fields(make_app: MakeApp) -> None:
    events: list[Any] = []

    def keep(_logger: object, _method: str, event: Any) -> Any:
        events.append(dict(event))
        raise structlog.DropEvent

    logger = structlog.wrap_logger(None, processors=[logs.add_trace_fields, keep])
    app = make_app(ids=IDS)

    @app.post("/orders")
    def create() -> str:
        logger.info("created", otelSpanID="mine")
        return ""

    app.test_client().post("/orders", json={"orderId": "ORD1"})
    logger.info("outside")
    inside, outside = events
    assert inside.keys() == FIELDS | {"event", "order.id"}
    assert inside["otelSpanID"] == "mine"
    assert inside["order.id"] == "ORD1"
    assert outside == {"event": "outside"}


def test_hashed_ids_are_logged_hashed(make_app: MakeApp, kept: list[logging.LogRecord]) -> None:
    order(make_app(ids=IDS, logs=True, id_hash="order.id", hash_key="secret"))
    assert len(kept[0].__dict__["order.id"]) == 32
    assert "ORD1" not in str(kept[0].__dict__)


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0))])
def test_requests_that_are_not_sampled_are_logged_with_their_ids(
    make_app: MakeApp, kept: list[logging.LogRecord], sampler: Sampler
) -> None:
    provider = TracerProvider(sampler=sampler)
    order(make_app(ids=IDS, logs=True, tracer_provider=provider))
    found = fields_of(kept[0])
    assert found["order.id"] == "ORD1"
    assert found["otelTraceSampled"] is False
    assert int(found["otelTraceID"], 16)


def test_an_excluded_route_logs_no_ids(make_app: MakeApp, kept: list[logging.LogRecord]) -> None:
    order(make_app(ids=IDS, logs=True, excluded_urls="/orders"))
    assert "order.id" not in kept[0].__dict__
    assert kept[0].__dict__["otelTraceSampled"] is False


def test_records_made_while_streaming_belong_to_the_request(
    make_app: MakeApp, spans: SpanRecorder, kept: list[logging.LogRecord]
) -> None:
    app = make_app(logs=True)

    @app.get("/stream")
    def stream() -> Response:
        def chunks() -> Iterator[str]:
            logging.getLogger("shop.orders.deep").info("chunk")
            yield "a"

        return Response(stream_with_context(chunks()))

    assert app.test_client().get("/stream").text == "a"
    context = spans.one("GET /stream").get_span_context()
    assert context is not None
    assert kept[0].__dict__["otelTraceID"] == f"{context.trace_id:032x}"


@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_record_made_while_the_body_is_read_reads_nothing(
    make_app: MakeApp, kept: list[logging.LogRecord], sampler: Sampler
) -> None:
    class Chatty:
        """A server's input that logs whenever it is read."""

        def __init__(self) -> None:
            self.left = b'{"orderId": "ORD1"}'

        def read(self, size: int = -1) -> bytes:
            logging.getLogger("shop.orders.deep").info("reading %d", size)
            data, self.left = self.left[:size], self.left[size:]
            return data

    app = make_app(ids=IDS, logs=True, tracer_provider=TracerProvider(sampler=sampler))

    @app.post("/orders")
    def create() -> str:
        request.get_data()
        trace = current_trace()
        assert trace is not None
        return trace.ids["order.id"]

    answer = app.test_client().post(
        "/orders",
        content_type="application/json",
        environ_overrides={"wsgi.input": Chatty(), "CONTENT_LENGTH": "19"},
    )
    assert answer.text == "ORD1"
    assert kept


class Unsent:
    """The input of a client that never sends its body."""

    was_read = False

    def read(self, _size: int) -> bytes:
        self.was_read = True
        raise TimeoutError


@pytest.mark.parametrize(("method", "status"), [("POST", 404), ("PUT", 405)])
@pytest.mark.parametrize("sampler", [ALWAYS_ON, ALWAYS_OFF])
def test_a_record_of_a_refused_request_does_not_wait_for_its_body(
    make_app: MakeApp, kept: list[logging.LogRecord], sampler: Sampler, method: str, status: int
) -> None:
    app = make_app(ids=IDS, logs=True, tracer_provider=TracerProvider(sampler=sampler))

    @app.route("/orders" if status == 405 else "/elsewhere", methods=["POST"])
    def create() -> str:
        return ""

    @app.errorhandler(status)
    def refused(_error: Any) -> Any:
        logging.getLogger("shop.orders.deep").info("refused")
        return "", status

    source = Unsent()
    answer = app.test_client().open(
        "/orders",
        method=method,
        content_type="application/json",
        environ_overrides={"wsgi.input": source, "CONTENT_LENGTH": "19"},
    )
    assert answer.status_code == status
    assert not source.was_read
    assert any(record.getMessage() == "refused" for record in kept)


def test_a_span_that_is_none_breaks_no_record(
    make_app: MakeApp, kept: list[logging.LogRecord]
) -> None:
    """A test's mock of a provider."""
    app = make_app(ids=IDS, logs=True, tracer_provider=MagicMock())

    @app.post("/orders")
    def create() -> str:
        logging.getLogger("shop.orders.deep").info("made")
        return "made"

    assert app.test_client().post("/orders", json={"orderId": "1"}).text == "made"
    assert any(record.getMessage() == "made" for record in kept)


def test_opentelemetrys_own_logging_instrumentation_may_be_on_as_well(
    make_app: MakeApp, kept: list[logging.LogRecord], spans: SpanRecorder
) -> None:
    from opentelemetry.instrumentation.logging import LoggingInstrumentor

    instrumentor = LoggingInstrumentor()
    instrumentor.instrument(set_logging_format=False)
    try:
        order(make_app(ids=IDS, logs=True))
    finally:
        instrumentor.uninstrument()
    context = spans.one("POST /orders").get_span_context()
    assert context is not None
    assert kept[0].__dict__["otelTraceID"] == f"{context.trace_id:032x}"
    assert kept[0].__dict__["order.id"] == "ORD1"


def test_gunicorns_access_log_says_the_trace_as_documented(tmp_path: Path) -> None:
    """The command of docs/logging.md, run."""
    page = (Path(__file__).parents[1] / "docs" / "logging.md").read_text(encoding="utf-8")
    access_format = re.search(r"--access-logformat '(.+)'", page)
    assert access_format is not None
    (tmp_path / "shop.py").write_text(
        "from flask import Flask\n"
        "from flask_bodytrace import BodyTrace\n"
        "app = Flask('shop')\n"
        "BodyTrace(app)\n"
    )
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--access-logfile", "-"]
    with subprocess.Popen(
        [*command, "--access-logformat", access_format[1], "shop:app"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as server:
        assert server.stderr is not None
        assert server.stdout is not None
        try:
            port = next(
                match[1]
                for line in server.stderr
                if (match := re.search(r"Listening at: http://127\.0\.0\.1:(\d+)", line))
            )
            answer = requests.get(f"http://127.0.0.1:{port}/x?y=1", timeout=20)
            line = server.stdout.readline()
        finally:
            server.terminate()
            server.communicate(timeout=20)
    trace_id, span_id = answer.headers["X-Trace-ID"], answer.headers["X-Span-ID"]
    assert '"GET /x?y=1 HTTP/1.1" 404 ' in line
    assert line.endswith(f"trace={trace_id} span={span_id}\n")


def test_the_servers_access_log_carries_the_trace(make_app: MakeApp) -> None:
    app = make_app(logs=True, ids="order.id=query:order")
    kept: list[logging.LogRecord] = []
    logger = logging.getLogger("werkzeug")
    handler = logging.Handler()
    handler.emit = kept.append  # type: ignore[method-assign,assignment]
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        server = make_server("127.0.0.1", 0, app)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        answer = requests.get(f"http://127.0.0.1:{server.port}/x?order=A", timeout=20)
        server.shutdown()
        thread.join()
        server.server_close()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    (record,) = [each for each in kept if "GET /x" in each.getMessage()]
    assert record.__dict__["otelTraceID"] == answer.headers["X-Trace-ID"]
    assert record.__dict__["order.id"] == "A"
