"""What a request must be answered with and which spans it must leave; the differences. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanKind
    from opentelemetry.util.types import AttributeValue

IDS = ("order.id", "user.id")


@dataclass(frozen=True, kw_only=True)
class ExpectedSpan:
    """One span.

    :ivar name: its name.
    :ivar kind: its kind.
    :ivar parent: the name of the span above it in this process, or None for the first one.
    :ivar ids: the business ids it carries; every other id must be missing.
    :ivar attributes: what else it carries, among others.
    """

    name: str
    kind: SpanKind
    parent: str | None = None
    ids: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """What one request must lead to.

    :ivar status: the response's status.
    :ivar reply: what its JSON says, among other things.
    :ivar spans: every span of the request's trace; the first is the server's.
    :ivar continues: the (trace id, span id) of the caller that it continues, in hex, if any.
    """

    status: int
    reply: Mapping[str, object]
    spans: Sequence[ExpectedSpan]
    continues: tuple[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What came back: the status, the headers (names in lower case), and the JSON."""

    status: int
    headers: Mapping[str, str]
    reply: Mapping[str, object]


def differences(
    expected: Expectation, answer: Answer, spans: Sequence[ReadableSpan]
) -> Iterator[str]:
    """Yield a sentence for each thing that is not as expected.

    :param expected: what was to come.
    :param answer: what came.
    :param spans: all spans of the run, also those of other requests.
    """
    if answer.status != expected.status:
        yield f"status {answer.status} instead of {expected.status}"
    for key, value in expected.reply.items():
        if answer.reply.get(key) != value:
            yield f"{key} is {answer.reply.get(key)!r} instead of {value!r} in the reply"
    trace_id = answer.headers.get("x-trace-id")
    if trace_id is None:
        yield "no X-Trace-ID header"
        return
    own = [span for span in spans if f"{span.context.trace_id:032x}" == trace_id]
    found = {_label(span, own): span for span in own}
    wanted = {(span.name, span.kind.name, span.parent): span for span in expected.spans}
    for label in wanted.keys() - found.keys():
        yield "no span {} of kind {} under {}".format(*label)
    for label in found.keys() - wanted.keys():
        yield "a span {} of kind {} under {} that should not be".format(*label)
    if len(own) != len(found):
        yield f"{len(own)} spans, but only {len(found)} different ones"
    for label in wanted.keys() & found.keys():
        yield from _attribute_differences(wanted[label], found[label])
    first = expected.spans[0]
    if server := found.get((first.name, first.kind.name, first.parent)):
        yield from _header_differences(expected, answer, server)


def _label(span: ReadableSpan, own: Sequence[ReadableSpan]) -> tuple[str, str, str | None]:
    above = span.parent.span_id if span.parent else None
    parent = next((other.name for other in own if other.context.span_id == above), None)
    return (span.name, span.kind.name, parent)


def _attribute_differences(expected: ExpectedSpan, span: ReadableSpan) -> Iterator[str]:
    attributes = span.attributes or {}
    wanted = {**{key: expected.ids.get(key) for key in IDS}, **expected.attributes}
    for key, value in wanted.items():
        if attributes.get(key) != value:
            yield f"span {span.name}: {key} is {attributes.get(key)!r} instead of {value!r}"


def _header_differences(
    expected: Expectation, answer: Answer, server: ReadableSpan
) -> Iterator[str]:
    if answer.headers.get("x-span-id") != f"{server.context.span_id:016x}":
        yield f"X-Span-ID is {answer.headers.get('x-span-id')}, not the server span's id"
    above = f"{server.parent.span_id:016x}" if server.parent else None
    if answer.headers.get("x-parent-span-id") != above:
        yield f"X-Parent-Span-ID is {answer.headers.get('x-parent-span-id')} instead of {above}"
    if expected.continues:
        if (answer.headers["x-trace-id"], above) != expected.continues:
            yield "the caller's trace is not continued"
    elif above is not None:
        yield f"the trace should start here, but has the parent {above}"
