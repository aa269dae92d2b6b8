"""Look at the spans an application makes, in its own tests; works without pytest.

    with capture_spans() as spans, deterministic_ids():
        client = tracing_client(app)
        client.post("/orders", json={"orderId": "ORD1"})
    span = spans.one("POST /orders")
    spans.assert_ids(span, {"order.id": "ORD1"})
    spans.assert_child("charge card", of=span)
    spans.assert_child(span, of=client.caller)

Spans are there as soon as the client's call returns; those of a streamed response once it was read.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from flask.testing import FlaskClient
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import SpanContext, TraceFlags, format_span_id, format_trace_id

from .flow.response import end_dropped
from .otel import sdk
from .otel.registry import IdentityRegistry

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from flask import Flask
    from werkzeug.datastructures import Headers


class SpanRecorder:
    """Finished spans, oldest first."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []

    def add(self, span: ReadableSpan) -> None:
        """Keep `span`."""
        self._spans.append(span)

    @property
    def finished(self) -> list[ReadableSpan]:
        """The spans so far, in the order they ended."""
        end_dropped()
        return list(self._spans)

    def clear(self) -> None:
        """Forget the spans so far."""
        self._spans.clear()

    def named(self, name: str) -> list[ReadableSpan]:
        """The finished spans of that name."""
        return [span for span in self.finished if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only finished span of that name.

        :raises AssertionError: there is none, or more than one; says which there are.
        """
        spans = self.named(name)
        if len(spans) != 1:
            raise AssertionError(f"{len(spans)} spans are named {name!r}, not one; {self._shown()}")
        return spans[0]

    def children_of(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The finished spans directly below `parent`."""
        context = _context(parent)
        return [span for span in self.finished if _is_below(span, context)]

    @property
    def edges(self) -> list[tuple[str | None, str]]:
        """(name of the parent, name) of every finished span; None where the parent is not one."""
        names = {_identity(_context(span)): span.name for span in self.finished}
        return [
            (names.get(_identity(span.parent)) if span.parent else None, span.name)
            for span in self.finished
        ]

    def tree(self) -> str:
        """All finished spans, one a line, indented below their parents."""
        known = {_identity(_context(span)) for span in self.finished}
        lines: list[str] = []

        def show(span: ReadableSpan, depth: int) -> None:
            context = _context(span)
            lines.append(f"{'  ' * depth}{span.name}  {format_span_id(context.span_id)}")
            for child in self.children_of(span):
                show(child, depth + 1)

        for span in self.finished:
            if span.parent is None:
                show(span, 0)
            elif _identity(span.parent) not in known:
                lines.append(f"(not recorded)  {format_span_id(span.parent.span_id)}")
                show(span, 1)
        return "\n".join(lines)

    def assert_child(
        self, child: ReadableSpan | str, *, of: ReadableSpan | SpanContext | str
    ) -> ReadableSpan:
        """`child` is directly below `of`.

        :param child: a span, or the name of exactly one.
        :param of: a span, the name of exactly one, or the context of one that was not recorded
            here, such as a client's.
        :returns: the child.
        :raises AssertionError: it is not; says where it is.
        """
        span = self.one(child) if isinstance(child, str) else child
        parent = self.one(of) if isinstance(of, str) else of
        context = parent if isinstance(parent, SpanContext) else _context(parent)
        if not _is_below(span, context):
            name = "" if isinstance(parent, SpanContext) else f"{parent.name!r}, "
            at = f"below {_describe(span.parent)}" if span.parent else "a root span"
            raise AssertionError(
                f"{span.name!r} (trace {trace_id_of(span)}) is {at}, "
                f"not below {name}{_describe(context)}; {self._shown()}"
            )
        return span

    def assert_root(self, span: ReadableSpan | str) -> ReadableSpan:
        """`span`, or the only one of that name, starts its trace.

        :raises AssertionError: it has a parent; says which.
        """
        span = self.one(span) if isinstance(span, str) else span
        if span.parent is not None:
            raise AssertionError(
                f"{span.name!r} is no root span: its parent is {_describe(span.parent)}; "
                f"{self._shown()}"
            )
        return span

    def assert_edges(self, edges: Iterable[tuple[str | None, str]]) -> None:
        """The finished spans are exactly these, each below that parent, in any order.

        :param edges: as in `edges`.
        :raises AssertionError: says what is missing and what is too much.
        """
        expected, found = Counter(edges), Counter(self.edges)
        if expected != found:
            missing = list((expected - found).elements())
            surplus = list((found - expected).elements())
            raise AssertionError(
                f"edges missing: {missing}, not expected: {surplus}; {self._shown()}"
            )

    def assert_ids(self, span: ReadableSpan | str, ids: Mapping[str, str]) -> ReadableSpan:
        """`span`, or the only one of that name, carries these business ids.

        :returns: the span.
        :raises AssertionError: says which are missing or different.
        """
        span = self.one(span) if isinstance(span, str) else span
        attributes = span.attributes or {}
        wrong = {
            name: attributes.get(name)
            for name, value in ids.items()
            if attributes.get(name) != value
        }
        if wrong:
            raise AssertionError(
                f"{span.name!r} should have {dict(ids)}, but {wrong} is there; its attributes: "
                f"{dict(attributes)}"
            )
        return span

    def _shown(self) -> str:
        if not self.finished:
            return (
                "no span has finished (is the route excluded, the sampler off, a streamed response "
                "not read yet, or BODYTRACE_ENABLED=0?)"
            )
        return f"finished are\n{self.tree()}"


def trace_id_of(span: ReadableSpan) -> str:
    """The span's trace id, 32 hex digits."""
    return format_trace_id(_context(span).trace_id)


def span_id_of(span: ReadableSpan) -> str:
    """The span's id, 16 hex digits."""
    return format_span_id(_context(span).span_id)


def _context(span: ReadableSpan) -> SpanContext:
    return cast("SpanContext", span.get_span_context())


def _identity(context: SpanContext) -> tuple[int, int]:
    return context.trace_id, context.span_id


def _is_below(span: ReadableSpan, parent: SpanContext) -> bool:
    return span.parent is not None and _identity(span.parent) == _identity(parent)


def _describe(context: SpanContext) -> str:
    return f"span {format_span_id(context.span_id)} of trace {format_trace_id(context.trace_id)}"


class _Distributor(SpanProcessor):
    """The one processor a provider gets from here: the SDK has no way to remove one again."""

    def __init__(self) -> None:
        self.recorders: list[SpanRecorder] = []

    def on_end(self, span: ReadableSpan) -> None:
        for recorder in self.recorders:
            recorder.add(span)


_distributors: IdentityRegistry[TracerProvider, _Distributor] = IdentityRegistry()


def _distributor(provider: TracerProvider) -> _Distributor:
    def make() -> _Distributor:
        made = _Distributor()
        provider.add_span_processor(made)
        return made

    return _distributors.get_or_make(provider, make)


@contextmanager
def capture_spans(app: Flask | None = None) -> Iterator[SpanRecorder]:
    """Record the spans that finish meanwhile.

    :param app: whose provider to listen to; None is every provider that an application with
        `BodyTrace` uses, now or later, and the global one. None is set up for this, so that the
        application under test is free to do so.
    :raises TypeError: the application's provider is no SDK provider.
    """
    recorder = SpanRecorder()
    heard: list[_Distributor] = []

    def listen(provider: trace.TracerProvider) -> None:
        if isinstance(provider, TracerProvider):
            distributor = _distributor(provider)
            if distributor not in heard:
                heard.append(distributor)
                distributor.recorders.append(recorder)

    if app is None:
        for provider in (*sdk.in_use.keys(), trace.get_tracer_provider()):
            listen(provider)
        sdk.watchers.append(listen)
    else:
        listen(_provider_of(app))
    try:
        yield recorder
    finally:
        if app is None:
            sdk.watchers.remove(listen)
        for distributor in heard:
            distributor.recorders.remove(recorder)


def _provider_of(app: Flask) -> TracerProvider:
    state = app.extensions.get("bodytrace")
    if state is None or state.plan is None:
        raise TypeError(f"{app!r} has no BodyTrace, or it is switched off (BODYTRACE_ENABLED)")
    provider = state.plan.provider
    if not isinstance(provider, TracerProvider):
        raise TypeError(
            f"spans cannot be captured from {type(provider).__name__}: an SDK TracerProvider is "
            "needed (is OTEL_SDK_DISABLED set?)"
        )
    return provider


@contextmanager
def deterministic_ids(first: int = 1) -> Iterator[None]:
    """Number trace ids and span ids from `first` on, each, instead of drawing them.

    For snapshots of headers and logs: the first trace is ``00…01``. Counts for every tracer with
    OpenTelemetry's own id generator or ours, in every thread; ids from a business key stay.
    """
    traces, spans = itertools.count(first), itertools.count(first)

    def trace_id(_self: RandomIdGenerator) -> int:
        return next(traces)

    def span_id(_self: RandomIdGenerator) -> int:
        return next(spans)

    with (
        mock.patch.object(RandomIdGenerator, "generate_trace_id", trace_id),
        mock.patch.object(RandomIdGenerator, "generate_span_id", span_id),
    ):
        yield


class TracingClient(FlaskClient):
    """A test client whose every request starts a trace, as a traced caller's would.

    A ``traceparent`` given with a request stays.
    """

    sampled = True
    """Whether the traces say that they are recorded (W3C flag bit 0)."""

    caller: SpanContext
    """The span that the last request named as its parent."""

    def run_wsgi_app(
        self, environ: WSGIEnvironment, buffered: bool = False
    ) -> tuple[Iterable[bytes], str, Headers]:
        """As Flask's, below a new span."""
        if "HTTP_TRACEPARENT" not in environ:
            generator = RandomIdGenerator()
            flags = TraceFlags.SAMPLED if self.sampled else TraceFlags.DEFAULT
            self.caller = SpanContext(
                generator.generate_trace_id(),
                generator.generate_span_id(),
                is_remote=False,
                trace_flags=TraceFlags(flags),
            )
            environ["HTTP_TRACEPARENT"] = (
                f"00-{format_trace_id(self.caller.trace_id)}"
                f"-{format_span_id(self.caller.span_id)}-{flags:02x}"
            )
        return super().run_wsgi_app(environ, buffered)


def tracing_client(app: Flask, *, sampled: bool = True, **options: Any) -> TracingClient:
    """A `TracingClient` for `app`, on top of the application's own ``test_client_class``.

    :param options: as for ``app.test_client``.
    """
    own = app.test_client_class or FlaskClient
    kind = type("TracingClient", (TracingClient, own), {"sampled": sampled})
    client: TracingClient = kind(app, app.response_class, **options)
    return client
