"""The call tree of what a client asked for, from response headers alone.

    tree = CallTree()
    session = tree.watch(requests.Session())
    session.post("http://shop.example/orders", json={"orderId": "ORD1"})
    print(tree)

Services with ``BODYTRACE_RELAY_CALLS`` pass the calls below them on; of others only the service
that answered is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from time import perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from opentelemetry import context as otel_context
from opentelemetry import propagate
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    format_span_id,
    format_trace_id,
    get_current_span,
    set_span_in_context,
)

from .calls import render as calltree
from .calls import sessions
from .calls.call import Call, printable, status_of
from .calls.tree import answer
from .trace.current import TRACE_KEY
from .trace.headers import Header
from .trace.traceparent import parse_traceparent
from .trace.xtrace import parse_trace_id

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.sdk.trace.export import SpanExporter

S = TypeVar("S")
_MAX_ROOTS = 1000
_STATUS_LINE = re.compile(r"HTTP/[0-9.]+ ([0-9]{3})(?: |$)")
_ids = RandomIdGenerator()


class CallTree:
    """Watches HTTP sessions and rebuilds the tree of calls behind their responses.

    Inside a span the calls belong to its trace. Outside of any they all belong to one trace that
    the tree starts, sampled: one tree is one operation. Keeps the first 1000 calls.

    Everything in a response is taken as untrusted: it can describe the trace that the request
    belonged to, below that request, and nothing else.
    """

    def __init__(self) -> None:
        self._trace_id = _ids.generate_trace_id()
        self._own: set[int] = set()
        self._roots: list[Call] = []
        self._more = 0

    @property
    def trace_id(self) -> str:
        """The trace of calls made outside of any span, 32 hex digits."""
        return format_trace_id(self._trace_id)

    @property
    def roots(self) -> list[Call]:
        """The calls made, oldest first; what they led to is below them."""
        return list(self._roots)

    def watch(self, session: S) -> S:
        """Collect what `session` calls from now on; returns `session`.

        :param session: a `requests.Session`, `httpx.Client` or `httpx.AsyncClient`.
        :raises TypeError: it is none of them.
        """
        return sessions.watch(session, self)

    def unwatch(self, session: object) -> None:
        """Leave `session` as it was before `watch`."""
        sessions.unwatch(session, self)

    def add(
        self,
        headers: Mapping[str, str] | Iterable[Header] | str,
        *,
        status: int | None = None,
        name: str = "request",
        milliseconds: float | None = None,
    ) -> Call:
        """Add a response that came another way, and return it as a call.

        :param headers: the response's, or what ``curl -i`` printed.
        :param status: of the response; read from what ``curl`` printed.
        :param name: what to show for the request, such as ``POST /orders``.
        :param milliseconds: how long it took.
        """
        if isinstance(headers, str):
            pairs, status = _from_curl(headers, status)
        else:
            pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
        call = Call(printable(name), kind="client", milliseconds=milliseconds)
        answer(call, pairs, status)
        if call.children:
            # Whoever sent the request has no span that we know of.
            call = call.children[0]
            if call.milliseconds is None:
                call.milliseconds = milliseconds
        self._keep(call)
        return call

    def report(self, exporter: SpanExporter | None = None) -> int:
        """Export the calls as spans and return how many: ids, parents and times as known.

        Only calls of the traces that the requests belonged to, and with a span of their own; each
        span once. Where services export their spans themselves, a backend gets them twice.

        :param exporter: default what the global tracer provider, set up from ``OTEL_*`` if nobody
            did, exports to.
        """
        from .calls.export import export

        return export(self._roots, exporter)

    def to_mermaid(self) -> str:
        """A Mermaid flowchart."""
        return calltree.to_mermaid(self._roots, self._more)

    def to_json(self) -> str:
        """JSON that `from_json` reads."""
        return calltree.to_json(self._roots, self._more)

    @classmethod
    def from_json(cls, text: str | bytes) -> CallTree:
        """The tree that `to_json` wrote.

        :raises ValueError: `text` is something else.
        """
        tree = cls()
        tree._roots, tree._more = calltree.from_json(text)
        return tree

    def __str__(self) -> str:
        return calltree.to_text(self._roots, self._more)

    def __repr__(self) -> str:
        return f"<CallTree of {len(self._roots)} calls>"

    # The `sessions.Watcher` protocol. Other HTTP clients may call these directly.

    def sending(self, method: str, url: str, headers: MutableMapping[str, str]) -> Sent:
        """A request is about to be sent: put the trace into its `headers`."""
        call = Call(name_of(method, url), kind="client", began=time_ns())
        sent = sent_in(headers)
        own = 0
        # A redirect repeats the headers of the request before it: it gets a span id of its own.
        again = sent is not None and sent[0] == self._trace_id and sent[1] in self._own
        if again or (sent is None and not get_current_span().get_span_context().is_valid):
            own = _ids.generate_span_id()
            sent = (self._trace_id, own)
            flags = TraceFlags(TraceFlags.SAMPLED)
            span = NonRecordingSpan(SpanContext(self._trace_id, own, False, flags))
            _inject(headers, set_span_in_context(span), over=again)
        elif sent is None:
            _inject(headers)
        parent = sent or _current()
        call.trace_id = format_trace_id(parent[0])
        if self._keep(call) and own:
            self._own.add(own)
        return Sent(call, perf_counter_ns(), parent, own)

    def answered(
        self, sent: Sent, request: Mapping[str, str], status: int, response: Iterable[Header]
    ) -> None:
        """The response's headers are here."""
        answer(sent.call, list(response), status, sent.end(request))

    def failed(self, sent: Sent, request: Mapping[str, str], error: BaseException) -> None:
        """There was no answer."""
        sent.end(request)
        sent.call.status = status_of(type(error).__name__)

    def _keep(self, call: Call) -> bool:
        if len(self._roots) >= _MAX_ROOTS:
            self._more += 1
            return False
        self._roots.append(call)
        return True


@dataclass(frozen=True, slots=True)
class Sent:
    """A request a `CallTree` waits for.

    :param started: `perf_counter_ns`.
    :param parent: trace and span id meant to be sent.
    :param own: the span id, if the tree made it.
    """

    call: Call
    started: int
    parent: tuple[int, int]
    own: int

    def end(self, request: Mapping[str, str]) -> int:
        """Complete the call; the span id that really was sent (instrumentation may come later)."""
        trace_id, span_id = sent_in(request) or self.parent
        call = self.call
        call.milliseconds = (perf_counter_ns() - self.started) / 1e6
        call.trace_id = format_trace_id(trace_id)
        if self.own and self.own == span_id:
            call.span_id = format_span_id(span_id)
        elif span_id:
            call.parent_span_id = format_span_id(span_id)
        return span_id


def watch(session: S) -> S:
    """Let what `session` calls while a request is handled belong to that request's trace.

    Trace headers are added where nobody else did, and with ``BODYTRACE_RELAY_CALLS`` the calls
    behind the responses are passed on to this request's caller. Returns `session`.

    :param session: a `requests.Session`, `httpx.Client` or `httpx.AsyncClient`.
    :raises TypeError: it is none of them.
    """
    return sessions.watch(session, _recorder)


def unwatch(session: object) -> None:
    """Leave `session` as it was before `watch`."""
    sessions.unwatch(session, _recorder)


class _CallRecorder:
    """Records outbound calls for the request being handled."""

    def sending(self, method: str, url: str, headers: MutableMapping[str, str]) -> Any:
        span = get_current_span()
        if sent_in(headers) is None and span.get_span_context().is_valid:
            _inject(headers)
        calls = getattr(otel_context.get_value(TRACE_KEY), "relayed", None)
        return None if calls is None else calls.sending(name_of(method, url), span)

    def answered(
        self, sent: Any, request: Mapping[str, str], status: int, response: Iterable[Header]
    ) -> None:
        if sent is not None:
            sent.answered(sent_in(request), status, list(response))

    def failed(self, sent: Any, request: Mapping[str, str], error: BaseException) -> None:
        if sent is not None:
            sent.failed(sent_in(request), error)


_recorder = _CallRecorder()


def sent_in(headers: Mapping[str, Any]) -> tuple[int, int] | None:
    """Trace and span id a request names (the latter 0 where it names none); None if neither."""
    traceparent = parse_traceparent(_header(headers, "traceparent"))
    if traceparent is not None:
        return traceparent.trace_id, traceparent.span_id
    trace_id = parse_trace_id(_header(headers, "x-trace-id"))
    if trace_id is None:
        return None
    span_id = _header(headers, "x-span-id")
    return trace_id, int(span_id, 16) if re.fullmatch("[0-9a-f]{16}", span_id) else 0


def name_of(method: str, url: str) -> str:
    """What a call is shown as: no user, no password, no query."""
    parts = urlsplit(url)
    return printable(f"{method} {parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _header(headers: Mapping[str, Any], name: str) -> str:
    value = headers.get(name, "")
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _inject(
    headers: MutableMapping[str, str], context: Context | None = None, *, over: bool = False
) -> None:
    carrier: dict[str, str] = {}
    propagate.inject(carrier, context)
    for name, value in carrier.items():
        if over or name not in headers:
            headers[name] = value


def _current() -> tuple[int, int]:
    context = get_current_span().get_span_context()
    return context.trace_id, context.span_id


def _from_curl(text: str, status: int | None) -> tuple[list[Header], int | None]:
    pairs: list[Header] = []
    interim = True
    for line in text.splitlines():
        if match := _STATUS_LINE.match(line):
            if not interim:
                break
            pairs, status = [], int(match[1])
            # 100 Continue and redirects come before the response.
            interim = status < 200 or 300 <= status < 400
        elif not line.strip():
            if not interim:
                break
        else:
            name, _, value = line.partition(":")
            pairs.append((name.strip(), value.strip()))
    return pairs, status
