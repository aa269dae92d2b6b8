"""Spans as an indented tree, as text. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

SHOWN = ("order.id", "user.id", "http.response.status_code", "error.type")


def render(spans: Sequence[ReadableSpan]) -> Iterator[str]:
    """Yield the lines of one tree for each trace among `spans`, which have all ended."""
    for trace_id in dict.fromkeys(span.context.trace_id for span in spans):
        members = [span for span in spans if span.context.trace_id == trace_id]
        yield f"trace {trace_id:032x}"
        known = {span.context.span_id for span in members}
        for span in members:
            if span.parent is None:
                yield from _branch(span, members, indent="  ")
            elif span.parent.span_id not in known:
                yield f"  (span {span.parent.span_id:016x} of the caller)"
                yield from _branch(span, members, indent="    ")


def _branch(span: ReadableSpan, members: Sequence[ReadableSpan], indent: str) -> Iterator[str]:
    milliseconds = ((span.end_time or 0) - (span.start_time or 0)) / 1e6
    attributes = span.attributes or {}
    shown = " ".join(f"{key}={attributes[key]!s}" for key in SHOWN if key in attributes)
    yield f"{indent}{span.name}  {span.kind.name}  {milliseconds:.1f} ms  {shown}".rstrip()
    children = [
        other for other in members if other.parent and other.parent.span_id == span.context.span_id
    ]
    for child in sorted(children, key=lambda child: child.start_time or 0):
        yield from _branch(child, members, indent + "  ")
