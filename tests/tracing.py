from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask
from opentelemetry import propagate
from opentelemetry.context import get_current
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, format_span_id, format_trace_id
from werkzeug.serving import make_server

from flask_bodytrace import BodyTrace, BusinessIdGenerator


class Spans(InMemorySpanExporter):
    """What was exported, to be asked about."""

    def __init__(self) -> None:
        super().__init__()
        self._more = threading.Condition()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with self._more:
            result = super().export(spans)
            self._more.notify_all()
        return result

    def soon(self, *names: str) -> None:
        """Wait for spans of these names: a client may have its answer before the server is done."""

        def there() -> bool:
            return set(names) <= {span.name for span in self.all}

        with self._more:
            assert self._more.wait_for(there, 20), [span.name for span in self.all]

    @property
    def all(self) -> list[ReadableSpan]:
        return list(self.get_finished_spans())

    def one(self, name: str) -> ReadableSpan:
        found = [span for span in self.all if span.name == name]
        assert len(found) == 1, [span.name for span in self.all]
        return found[0]

    def server(self) -> ReadableSpan:
        """The only server span there is."""
        found = [span for span in self.all if span.kind is SpanKind.SERVER]
        assert len(found) == 1, [span.name for span in self.all]
        return found[0]


def ids_of(span: ReadableSpan) -> tuple[str, str, str | None]:
    """Trace, span and parent id in hex."""
    context = span.get_span_context()
    assert context is not None
    parent = None if span.parent is None else format_span_id(span.parent.span_id)
    return format_trace_id(context.trace_id), format_span_id(context.span_id), parent


@pytest.fixture
def hex_ids() -> Callable[[ReadableSpan], tuple[str, str, str | None]]:
    return ids_of


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
def provider(spans: Spans) -> Iterator[TracerProvider]:
    provider = TracerProvider(id_generator=BusinessIdGenerator(), shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    yield provider
    provider.shutdown()


@pytest.fixture
def make_app(provider: TracerProvider) -> Callable[..., Flask]:
    def make(name: str = "traced", **settings: Any) -> Flask:
        app = Flask(name)
        BodyTrace(app, tracer_provider=settings.pop("tracer_provider", provider), **settings)
        return app

    return make


@pytest.fixture
def serve() -> Iterator[Callable[[Any], str]]:
    """Serve a WSGI application on a free port; gives its URL."""
    with ExitStack() as stack:

        def start(app: Any) -> str:
            server = make_server("127.0.0.1", 0, app, threaded=True)
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()

            def stop() -> None:
                server.shutdown()
                thread.join(10)
                server.server_close()

            stack.callback(stop)
            return f"http://127.0.0.1:{server.port}"

        yield start


@pytest.fixture
def propagators() -> Iterator[Callable[[Any], None]]:
    """Set the global propagator for one test."""
    before = propagate.get_global_textmap()
    yield propagate.set_global_textmap
    propagate.set_global_textmap(before)


@pytest.fixture(autouse=True)
def no_context_left_behind(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After every test here: no token that could not be detached (T3), no context left (T4)."""
    caplog.set_level(logging.INFO, "opentelemetry")
    yield
    assert dict(get_current()) == {}
    for phase in ("setup", "call", "teardown"):
        messages = [record.getMessage() for record in caplog.get_records(phase)]
        assert not [text for text in messages if "detach" in text]
