from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from flask import Flask, redirect
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import format_span_id

from example_app.serving import serving
from flask_bodytrace import BodyTrace

Edge = tuple[str | None, str]


@dataclass
class System:
    """Services over real sockets, all spans in one exporter."""

    stack: ExitStack
    exporter: InMemorySpanExporter = field(default_factory=InMemorySpanExporter)

    def serve(self, app: Any) -> str:
        """The URL `app` is served at."""
        return self.stack.enter_context(serving(app))

    def service(self, name: str, calls: tuple[str, ...] = (), **settings: Any) -> str:
        """The URL of a service whose ``/go/<n>`` calls the URLs `calls`, one after another."""
        app, _ = self.app(name, calls, **settings)
        return self.serve(app)

    def app(
        self, name: str, calls: tuple[str, ...] = (), *, relay_calls: bool = True, **settings: Any
    ) -> tuple[Flask, TracerProvider]:
        provider = TracerProvider(resource=Resource.create({"service.name": name}))
        provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.stack.callback(provider.shutdown)
        app = Flask(name)
        bodytrace = BodyTrace(
            app, tracer_provider=provider, relay_calls=relay_calls, metrics=False, **settings
        )
        session = bodytrace.watch(self.stack.enter_context(requests.Session()))
        tracer = provider.get_tracer(name)

        @app.get("/go/<int:n>")
        def go(n: int) -> str:
            with tracer.start_as_current_span(f"{name} work {n}"):
                for url in calls:
                    session.get(url, timeout=10)
            return name

        @app.get("/fail")
        def fail() -> tuple[str, int]:
            return "no", 503

        @app.get("/moved")
        def moved() -> Any:
            return redirect("/go/7")

        return app, provider

    def edges(self, trace_id: str) -> set[Edge]:
        """(parent, span) of everything exported of that trace."""
        return {
            (format_span_id(span.parent.span_id) if span.parent else None, span_id(span))
            for span in self.exporter.get_finished_spans()
            if trace_id_of(span) == trace_id
        }


def span_id(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return format_span_id(context.span_id)


def trace_id_of(span: ReadableSpan) -> str:
    context = span.get_span_context()
    assert context is not None
    return f"{context.trace_id:032x}"


@pytest.fixture
def system() -> Iterator[System]:
    with ExitStack() as stack:
        yield System(stack)


@pytest.fixture
def edges_of() -> Callable[[str], set[Edge]]:
    """(parent, span) as they can be read from the lines of a printed tree."""

    def edges(text: str) -> set[Edge]:
        found: set[Edge] = set()
        above: list[tuple[int, str | None]] = []
        for line in text.splitlines():
            if (match := re.search(r"\[([0-9a-f]{16})\]", line)) is None:
                continue
            depth = len(line) - len(line.lstrip("│├└─ "))
            while above and above[-1][0] >= depth:
                above.pop()
            found.add((above[-1][1] if above else None, match[1]))
            above.append((depth, match[1]))
        return found

    return edges


@pytest.fixture
def curl() -> Callable[..., str]:
    """What ``curl -i`` prints: the bytes of one response."""

    def get(url: str, *headers: str) -> str:
        parts = urlsplit(url)
        lines = [f"GET {parts.path} HTTP/1.0", f"Host: {parts.netloc}", *headers, "", ""]
        with socket.create_connection((parts.hostname or "", parts.port or 80), 10) as connection:
            connection.sendall("\r\n".join(lines).encode())
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    return get
