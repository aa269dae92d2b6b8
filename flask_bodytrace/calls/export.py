"""Exporting a client's call tree as spans."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from time import time_ns
from typing import TYPE_CHECKING

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

from flask_bodytrace.otel import sdk
from flask_bodytrace.otel.processors import pass_on
from flask_bodytrace.version import __version__

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

    from .call import Call


_SCOPE = InstrumentationScope("flask_bodytrace.client", __version__)
_SAMPLED = TraceFlags(TraceFlags.SAMPLED)


def export(roots: Iterable[Call], exporter: SpanExporter | None) -> int:
    """Export `roots` and what is below them; how many spans that are.

    :param exporter: default what the global tracer provider exports to.
    """
    spans = list(_spans(list(roots)))
    if exporter is not None:
        exporter.export(spans)
        return len(spans)
    provider = sdk.tracer_provider(None, "client")
    if not isinstance(provider, SdkTracerProvider):
        return 0
    for span in spans:
        pass_on(provider, span)
    return len(spans)


def _spans(roots: list[Call]) -> Iterator[ReadableSpan]:
    resources: dict[str, Resource] = {}
    # What this process made itself comes before what a service says.
    seen = {root.span_id for root in roots}
    for root in roots:
        began = time_ns() if root.began is None else root.began
        waiting = [(root, began, False)]
        while waiting:
            call, start, estimated = waiting.pop()
            if call.trace_id is None or call.trace_id != root.trace_id:
                continue
            waiting += [_start(call, start, child) for child in reversed(call.children)]
            if call.span_id is None or (call is not root and call.span_id in seen):
                continue
            seen.add(call.span_id)
            if call.service not in resources:
                named = {"service.name": call.service} if call.service else {}
                resources[call.service] = Resource.create(named)
            yield _span(call, start, estimated, resources[call.service])


def _start(parent: Call, start: int, child: Call) -> tuple[Call, int, bool]:
    """When `child` started, nanoseconds since 1970, and whether that is a guess."""
    if child.start is not None:
        return child, start + int(child.start * 1e6), False
    if parent.milliseconds is None or child.milliseconds is None:
        return child, start, True
    # As long to get there as to come back.
    return child, start + int(max(parent.milliseconds - child.milliseconds, 0) / 2 * 1e6), True


def _span(call: Call, start: int, estimated: bool, resource: Resource) -> ReadableSpan:
    trace_id = int(call.trace_id or "0", 16)
    attributes: dict[str, str | int | bool] = {}
    if call.status.isdecimal():
        attributes["http.response.status_code"] = int(call.status)
    if call.failed:
        attributes["error.type"] = call.status
    if estimated:
        attributes["bodytrace.start_estimated"] = True
    if call.more:
        attributes["bodytrace.calls_not_shown"] = call.more
    parent = None
    if call.parent_span_id is not None:
        parent = SpanContext(trace_id, int(call.parent_span_id, 16), True, _SAMPLED)
    return ReadableSpan(
        name=call.name,
        context=SpanContext(trace_id, int(call.span_id or "0", 16), False, _SAMPLED),
        parent=parent,
        resource=resource,
        attributes=attributes,
        kind=SpanKind[call.kind.upper()],
        status=Status(StatusCode.ERROR) if call.failed else Status(),
        start_time=start,
        end_time=start + int((call.milliseconds or 0) * 1e6),
        instrumentation_scope=_SCOPE,
    )
