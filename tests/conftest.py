from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from flask import Flask
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace, BusinessIdGenerator
from flask_bodytrace.testing import SpanRecorder, capture_spans

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

MakeApp = Callable[..., Flask]
Serve = Callable[["WSGIApplication"], int]


def pytest_configure() -> None:
    """Let Ctrl-C end what tests start: children inherit SIGINT as ignored from a background job."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def provider() -> TracerProvider:
    return TracerProvider(
        resource=Resource({"service.name": "shop"}), id_generator=BusinessIdGenerator()
    )


@pytest.fixture
def spans() -> Iterator[SpanRecorder]:
    with capture_spans() as recorder:
        yield recorder


@pytest.fixture
def make_app(provider: TracerProvider) -> MakeApp:
    def make(**settings: Any) -> Flask:
        app = Flask("shop")
        settings.setdefault("tracer_provider", provider)
        BodyTrace(app, **settings)
        return app

    return make


class Figures:
    """Metrics as they would be exported."""

    def __init__(self) -> None:
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self.reader])

    def all(self) -> dict[str, Any]:
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name: str) -> list[Any]:
        metric = self.all().get(name)
        return [] if metric is None else list(metric.data.data_points)

    def value(self, name: str, **attributes: object) -> float:
        """The sum over the points that have these attributes (dots as double underscores)."""
        wanted = {key.replace("__", "."): value for key, value in attributes.items()}
        total: float = sum(
            point.value
            for point in self.points(name)
            if all(point.attributes.get(key) == value for key, value in wanted.items())
        )
        return total


@pytest.fixture
def figures() -> Figures:
    return Figures()


class _Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        pass


@contextmanager
def serving(app: WSGIApplication) -> Iterator[int]:
    with make_server("127.0.0.1", 0, app, handler_class=_Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a WSGI application over a real socket until the test ends; its port."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda app: stack.enter_context(serving(app))
