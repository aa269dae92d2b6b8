"""``BODYTRACE_RELAY_CALLS``: what a request led to, passed on to its caller.

Imported only where that is on. Local spans come from a span processor, calls to other services
from watched sessions (`flask_bodytrace.client.watch`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from time import time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace import TracerProvider as SdkTracerProvider
from opentelemetry.trace import (
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TracerProvider,
    format_span_id,
    format_trace_id,
)

from flask_bodytrace.log_once import LogOnce
from flask_bodytrace.otel.registry import IdentityRegistry
from flask_bodytrace.trace.current import TRACE_KEY

from .call import Call, printable, status_of
from .tree import adopt, answer
from .wire import MAX_CALLS, METRIC, fit, only

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace import Span as SdkSpan

    from flask_bodytrace.otel.sampling import SpanIds
    from flask_bodytrace.trace.headers import Header


BUDGET = 3072
"""Bytes of relayed calls on a response: with the rest of its headers within the 4 KiB that proxies
such as nginx have room for."""

_report = LogOnce("the calls of a request cannot be relayed: %s")
_MAX_SPANS = 512
_MAX_BYTES = 1 << 18
_READ = frozenset({"server-timing", "traceresponse", "x-parent-span-id", "x-span-id", "x-trace-id"})
_KINDS = {
    SpanKind.SERVER: "server",
    SpanKind.CLIENT: "client",
    SpanKind.PRODUCER: "producer",
    SpanKind.CONSUMER: "consumer",
}
_STATUS_ATTRIBUTES = ("http.response.status_code", "http.status_code")


class Relay:
    """One application's relay.

    :param provider: whose spans are relayed; only an SDK's tells of local ones.
    :param service: what the application is called.
    """

    def __init__(self, provider: TracerProvider, service: str) -> None:
        self._service = service
        _collect_from(provider)

    def begin(self) -> RelayedCalls:
        """The calls of one request, none yet."""
        return RelayedCalls(self._service)


class RelayedCalls:
    """The calls and local spans that one request led to so far; bounded."""

    __slots__ = ("_answers", "_began", "_left", "_more", "_service", "_spans")

    def __init__(self, service: str) -> None:
        self._service = service
        self._began = time_ns()
        self._spans: dict[int, Span] = {}
        self._answers: list[Outbound] = []
        self._left = _MAX_BYTES
        self._more = 0

    def started(self, span: Span) -> None:
        """A local span was started."""
        span_id = span.get_span_context().span_id
        if span_id in self._spans:
            return
        if len(self._spans) < _MAX_SPANS:
            self._spans[span_id] = span
        else:
            self._more += 1

    def sending(self, name: str, span: Span) -> Outbound:
        """A call `name` is about to be made below `span`."""
        outbound = Outbound(self, name, span)
        if len(self._answers) < MAX_CALLS:
            self._answers.append(outbound)
        else:
            self._more += 1
        return outbound

    def take(self, size: int) -> bool:
        """Whether there is room for `size` bytes of headers."""
        self._left -= size
        return self._left >= 0

    def metrics(
        self, span: Span, names: SpanIds, name: str, status: int
    ) -> Callable[[int], list[str]]:
        """A function that renders the request's subtree as Server-Timing metrics, in n bytes.

        :param span: the server span.
        :param name: what it is called.
        """

        def write(size: int) -> list[str]:
            _, span_id, parent_span_id, _ = names
            try:
                if not self._spans and not self._answers:
                    # The usual case: no calls, so no tree to build.
                    began = getattr(span, "start_time", None) or self._began
                    took = (time_ns() - began) / 1e6
                    entry = only(span_id, parent_span_id, status, self._service, name, took)
                    if len(entry) < min(size, BUDGET):
                        return [entry]
                root = self._tree(span, name, status)
                root.parent_span_id = parent_span_id
                return fit(root, min(size, BUDGET))
            except Exception as error:  # noqa: BLE001 - the response goes out without
                _report(type(error).__name__)
                return []

        return write

    def _tree(self, span: Span, name: str, status: int) -> Call:
        now = time_ns()
        context = span.get_span_context()
        root = _described(span, self._service)
        root.name, root.kind, root.status = (
            printable(name),
            "server",
            str(status),
        )
        root.more = self._more
        began = getattr(span, "start_time", None) or self._began
        root.milliseconds = (now - began) / 1e6
        nodes = {context.span_id: root}
        starts = {context.span_id: began}
        self._add_local(nodes, starts, context)
        taken = {format_span_id(span_id) for span_id in nodes}
        for outbound in list(self._answers):
            parent = outbound.parent if outbound.parent in nodes else context.span_id
            below = outbound.tree(context.trace_id, taken)
            if below.span_id is None and nodes[parent].kind == "client":
                # The client span above already says the same.
                continue
            below.via = below.via or outbound.parent not in nodes
            below.start = (outbound.began - starts[parent]) / 1e6
            taken.update(call.span_id for call in below.walk() if call.span_id)
            adopt(nodes[parent], below)
        return root

    def _add_local(
        self, nodes: dict[int, Call], starts: dict[int, int], context: SpanContext
    ) -> None:
        added: list[tuple[Any, Call]] = []
        for span in list(self._spans.values()):
            ids = span.get_span_context()
            if ids.trace_id == context.trace_id and ids.span_id not in nodes:
                nodes[ids.span_id] = call = _described(span, self._service)
                starts[ids.span_id] = getattr(span, "start_time", None) or self._began
                added.append((span, call))
        for span, call in added:
            parent = 0 if span.parent is None else span.parent.span_id
            if parent not in nodes:
                call.via = True
                parent = context.span_id
            call.start = (starts[span.get_span_context().span_id] - starts[parent]) / 1e6
            adopt(nodes[parent], call)


class Outbound:
    """One call to another service."""

    __slots__ = ("_calls", "_headers", "_name", "_sent", "_status", "_took", "began")

    def __init__(self, calls: RelayedCalls, name: str, span: Span) -> None:
        self._calls = calls
        self._name = name
        context = span.get_span_context()
        self._sent = (context.trace_id, context.span_id)
        self._status: int | str | None = None
        self._headers: list[Header] = []
        self._took: float | None = None
        self.began = time_ns()

    @property
    def parent(self) -> int:
        """The id of the span that made the call; 0 if there was none."""
        return self._sent[1]

    def answered(self, sent: tuple[int, int] | None, status: int, headers: list[Header]) -> None:
        """The response's headers are here; `sent` is what the request named as its parent."""
        self._end(sent, status)
        self._headers = [pair for pair in headers if pair[0].lower() in _READ]
        if not self._calls.take(sum(len(value) for _, value in self._headers)):
            self._headers = [pair for pair in self._headers if pair[0].lower() != "server-timing"]
            self._headers.append(("Server-Timing", f"{METRIC};more=1"))

    def failed(self, sent: tuple[int, int] | None, error: BaseException) -> None:
        """There was no answer."""
        self._end(sent, status_of(type(error).__name__))

    def _end(self, sent: tuple[int, int] | None, status: int | str) -> None:
        self._took = (time_ns() - self.began) / 1e6
        self._sent = sent or self._sent
        self._status = status

    def tree(self, trace_id: int, taken: Collection[str]) -> Call:
        """The span that answered and what is below it; without one of this trace, the call.

        :param taken: span ids that nothing in it may have.
        """
        status = self._status
        call = Call(self._name, kind="client", milliseconds=self._took)
        call.trace_id = format_trace_id(self._sent[0])
        if not isinstance(status, int):
            call.status = status or ""
            return call
        answer(call, self._headers, status, self.parent, taken)
        if not call.children:
            return call
        server = call.children.pop()
        named = server.span_id is not None and server.span_id not in taken
        if not named or server.trace_id != format_trace_id(trace_id):
            return call
        if server.milliseconds is None:
            server.milliseconds = self._took
        return server


class _Collector(SpanProcessor):
    """Shows every span to the request in whose context it starts."""

    ignores_fast_spans = True
    """Those are shown by the request that starts them."""

    def on_start(self, span: SdkSpan, parent_context: Context | None = None) -> None:
        source = otel_context.get_value(TRACE_KEY, parent_context)
        calls = getattr(source, "relayed", None)
        if calls is not None:
            calls.started(span)


_collectors: IdentityRegistry[TracerProvider, _Collector] = IdentityRegistry()


def _collect_from(provider: TracerProvider) -> None:
    if isinstance(provider, SdkTracerProvider) and _collectors.get(provider) is None:
        provider.add_span_processor(_collectors.get_or_make(provider, _Collector))


def _described(span: Span, service: str) -> Call:
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    status = next((str(attributes[a]) for a in _STATUS_ATTRIBUTES if a in attributes), "")
    outcome = getattr(span, "status", None)
    if not status and outcome is not None and outcome.status_code is StatusCode.ERROR:
        status = str(attributes.get("error.type", "error"))
    started, ended = getattr(span, "start_time", None), getattr(span, "end_time", None)
    return Call(
        printable(getattr(span, "name", "")),
        service,
        _KINDS.get(getattr(span, "kind", SpanKind.INTERNAL), "internal"),
        status_of(status),
        span_id=format_span_id(span.get_span_context().span_id),
        milliseconds=(ended - started) / 1e6 if started and ended else None,
    )
