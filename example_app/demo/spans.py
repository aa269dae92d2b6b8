"""The spans of all processes, as the viewer received them; edges and trees of them."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING

import httpx

from example_app.bootstrap import VIEWER
from flask_bodytrace.viewer import KINDS, spans_from_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from example_app.system import System
    from flask_bodytrace.viewer import Span

Edge = tuple[str, str | None]
"""A span, and the one it is below; each as ``service kind name``."""

SHOWN = ("order.id", "user.label", "http.response.status_code", "error.type")
_WAIT_S = 30.0
_ASK_EVERY_S = 0.05


class SpanReader:
    """Reads traces from a system's viewer."""

    def __init__(self, system: System) -> None:
        self._viewer = system.url(VIEWER)
        self.client = httpx.Client(timeout=30, trust_env=False)

    def trace(self, trace_id: str) -> list[Span]:
        """Return the spans received so far."""
        answer = self.client.get(f"{self._viewer}/trace/{trace_id}/otlp.json")
        return spans_from_json(answer.content) if answer.is_success else []

    def wait_for(self, trace_id: str, is_whole: Callable[[Sequence[Span]], bool]) -> list[Span]:
        """Return the spans once they are whole; after half a minute, what there is."""
        deadline = time.monotonic() + _WAIT_S
        while True:
            spans = self.trace(trace_id)
            if is_whole(spans) or time.monotonic() > deadline:
                return spans
            time.sleep(_ASK_EVERY_S)

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


def label(span: Span) -> str:
    """The span as ``service kind name``."""
    return f"{span.service} {KINDS[span.kind]} {span.name}"


def edges(spans: Sequence[Span]) -> Counter[Edge]:
    """Return each span with the one it is below; None where that one is not among `spans`."""
    known = {span.span_id: span for span in spans}
    return Counter(
        (label(span), label(known[span.parent_id]) if span.parent_id in known else None)
        for span in spans
    )


def differences(expected: Counter[Edge], found: Counter[Edge]) -> Iterator[str]:
    """Yield a sentence for each span that is missing, or should not be there."""
    for span, parent in (expected - found).elements():
        yield f"no span {span!r} below {parent!r}"
    for span, parent in (found - expected).elements():
        yield f"a span {span!r} below {parent!r} that should not be"


def tree(spans: Sequence[Span]) -> Iterator[str]:
    """Yield the lines of one trace."""
    known = {span.span_id for span in spans}
    for span in sorted(spans, key=lambda span: span.start):
        if span.parent_id not in known:
            yield from _branch(span, spans, "")


def _branch(span: Span, spans: Sequence[Span], indent: str) -> Iterator[str]:
    shown = " ".join(f"{key}={span.attributes[key]!s}" for key in SHOWN if key in span.attributes)
    yield f"{indent}{label(span)}  {span.duration / 1e6:.1f} ms  {shown}".rstrip()
    for event in span.events:
        about = " ".join(f"{key}={value!s}" for key, value in event.attributes.items())
        yield f"{indent}  * {event.name} {about}".rstrip()
    children = [other for other in spans if other.parent_id == span.span_id]
    for child in sorted(children, key=lambda child: child.start):
        yield from _branch(child, spans, indent + "  ")
