"""Look at the spans an application makes, in its own tests; works without pytest.

    with capture_spans(app) as spans:
        app.test_client().post("/orders", json={"orderId": "ORD1"})
    assert spans.one("POST /orders").attributes["order.id"] == "ORD1"
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.trace import format_span_id, format_trace_id

from . import sdk

if TYPE_CHECKING:
    from flask import Flask


class SpanRecorder(SpanProcessor):
    """Finished spans, oldest first, as long as it is recording."""

    def __init__(self) -> None:
        self._spans: list[ReadableSpan] = []
        self.recording = True

    def on_end(self, span: ReadableSpan) -> None:
        """Keep `span`."""
        if self.recording:
            self._spans.append(span)

    @property
    def finished(self) -> list[ReadableSpan]:
        """The spans so far, in the order they ended."""
        return list(self._spans)

    def clear(self) -> None:
        """Forget the spans so far."""
        self._spans.clear()

    def named(self, name: str) -> list[ReadableSpan]:
        """The finished spans of that name."""
        return [span for span in self._spans if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """The only finished span of that name.

        :raises AssertionError: there is none, or more than one; says which there are.
        """
        spans = self.named(name)
        if len(spans) != 1:
            names = [span.name for span in self._spans]
            raise AssertionError(f"{len(spans)} spans are named {name!r}, of {names}")
        return spans[0]

    def children_of(self, parent: ReadableSpan) -> list[ReadableSpan]:
        """The finished spans directly below `parent`."""
        context = _context(parent)
        return [
            span
            for span in self._spans
            if span.parent is not None
            and span.parent.span_id == context.span_id
            and span.parent.trace_id == context.trace_id
        ]


def trace_id_of(span: ReadableSpan) -> str:
    """The span's trace id, 32 hex digits."""
    return format_trace_id(_context(span).trace_id)


def span_id_of(span: ReadableSpan) -> str:
    """The span's id, 16 hex digits."""
    return format_span_id(_context(span).span_id)


def _context(span: ReadableSpan) -> Any:
    return span.get_span_context()


@contextmanager
def capture_spans(app: Flask | None = None) -> Iterator[SpanRecorder]:
    """Record what finishes on `app`'s provider, or the global one, set up if nobody did.

    :raises TypeError: that provider is no SDK provider, so that nothing could be recorded.
    """
    provider: Any = None
    if app is not None and (plan := app.extensions["bodytrace"].plan) is not None:
        provider = plan.provider
    provider = sdk.tracer_provider(provider, "tests")
    if not isinstance(provider, TracerProvider):
        raise TypeError(
            f"spans cannot be captured from {type(provider).__name__}: an SDK TracerProvider is "
            "needed (is OTEL_SDK_DISABLED set?)"
        )
    recorder = SpanRecorder()
    provider.add_span_processor(recorder)
    try:
        yield recorder
    finally:
        # The SDK has no way to remove a processor again.
        recorder.recording = False
