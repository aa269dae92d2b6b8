"""Begin: replace the body, find out whose span it is, and start ours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    format_span_id,
    get_current_span,
)

from flask_bodytrace.body.cached import CachedBody
from flask_bodytrace.body.stream import BodyStream
from flask_bodytrace.ids.hash import derive_trace_id
from flask_bodytrace.otel.context import (
    SPAN_KEY,
    SUPPRESSED,
    current,
    is_suppressed,
    parent_in,
    without_trace,
)
from flask_bodytrace.otel.id_generator import preset_trace_id
from flask_bodytrace.otel.sampling import RANDOM, UnsampledSpan, samples_root, trace_for
from flask_bodytrace.trace import attributes
from flask_bodytrace.trace.current import TRACE_KEY
from flask_bodytrace.trace.header_capture import headers_of
from flask_bodytrace.trace.incoming import only_traceparent, read_caller
from flask_bodytrace.trace.xtrace import remote_parent

from .exchange import Exchange, with_ids
from .respond import start_response as respond_with

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from flask_bodytrace.otel.fast_path import FastPath

    from .plan import Plan

_ids = RandomIdGenerator()
_SAMPLED = int(TraceFlags.SAMPLED)


def begin(  # noqa: C901, PLR0912, PLR0915 - one function: every request goes through all of it
    plan: Plan, environ: WSGIEnvironment, start_response: StartResponse, awaits_span: bool
) -> Exchange:
    """The exchange of one request; its context is not attached yet."""
    stream = environ.get("wsgi.input")
    if type(stream) is BodyStream and not stream.body.closed:
        body = stream.body
    else:
        body = CachedBody(environ, plan.bodies)
    exchange = Exchange(plan, environ, start_response, body, awaits_span)
    exchange.start_response = partial(respond_with, exchange)
    enclosing = environ.get(TRACE_KEY)
    environ[TRACE_KEY] = exchange
    now = exchange.context = current()
    if plan.relay is not None:
        exchange.relayed = plan.relay.begin()
    try:
        # Whose span is it: an enclosing application's, none, another instrumentation's, or ours?
        if enclosing is not None and not enclosing.is_over:
            _join(exchange, enclosing, now)
        elif plan.excluded is not None and plan.excluded.match(environ):
            _exclude(exchange, now)
        elif SPAN_KEY in now and _is_server_span_of_another(now):
            exchange.adopt(get_current_span(now))
            exchange.share_ids()
        elif awaits_span:
            exchange.share_ids()
        else:
            exchange.owns_span = True
            values: Mapping[str, Any] = now
            fast = plan.fast
            sent = only_traceparent(environ) if plan.incoming == "continue" else None
            sampled = None
            if sent and fast is not None:
                # Fast path: the caller sent only a traceparent.
                trace_id, parent_id, flags = sent
                sampled = fast.samples_below(trace_id, flags)
                if sampled is not None:
                    exchange.parent_span_id = parent_id
                if sampled or (sampled is False and plan.keeps is not None):
                    parent = fast.spans.remote_parent(trace_id, parent_id, flags)
                    flags = flags & RANDOM | sampled
                    values = _record(exchange, fast, trace_id, flags, parent, None, now)
                elif sampled is False:
                    span_id = f"{fast.ids.generate_span_id():016x}"
                    exchange.span_ids = (trace_id, span_id, parent_id, flags & RANDOM)
                    exchange.span = unsampled = UnsampledSpan()
                    unsampled.ids = exchange.span_ids
            if sampled is None:
                values = _start(exchange, now, is_alone=sent == ())
            if plan.baggage and (not plan.finds_ids_when_routed or exchange.found_ids is not None):
                values = with_ids(values, exchange.find_ids())
            exchange.context = Context({**values, SPAN_KEY: exchange.span, TRACE_KEY: exchange})
            if plan.metrics is not None and plan.metrics.is_recording():
                scheme = environ.get("wsgi.url_scheme", "http")
                exchange.counted = plan.metrics.started(exchange.method, scheme)
                exchange.started = perf_counter()
    except Exception:  # noqa: BLE001 - the application must get the request
        plan.report("begin")
        if exchange.held is not None and not exchange.is_recording:
            # Its span did not start, and would be waited for.
            exchange.held.release(is_kept=False)
    if exchange.context is now:
        exchange.context = Context({**now, TRACE_KEY: exchange})
    return exchange


def _join(exchange: Exchange, enclosing: Exchange, now: Context) -> None:
    """Share the span of an application around this one."""
    exchange.enclosing = enclosing
    exchange.writes_headers = False
    exchange.awaits_span = enclosing.awaits_span
    exchange.relayed = enclosing.relayed
    if is_suppressed(now):
        exchange.found_ids = {}
    exchange.adopt(enclosing.span)
    exchange.parent_span_id = enclosing.parent_span_id
    exchange.share_ids()


def unserved(plan: Plan, environ: WSGIEnvironment) -> Exchange:
    """For a request that did not come by `run`, as in a test's ``app.test_request_context()``.

    It has ids and headers as any other one, but no span: nothing would end it.
    """
    exchange = Exchange(plan, environ, _unanswerable, _body_of(plan, environ), False)
    exchange.is_over = True
    _name_trace(exchange, current())
    environ[TRACE_KEY] = exchange
    return exchange


def _unanswerable(*_: object) -> Any:
    raise RuntimeError("this request did not come from a server")


def _body_of(plan: Plan, environ: WSGIEnvironment) -> CachedBody:
    stream = environ.get("wsgi.input")
    if type(stream) is BodyStream and not stream.body.closed:
        body: CachedBody = stream.body
        return body
    return CachedBody(environ, plan.bodies)


def _exclude(exchange: Exchange, now: Context) -> None:
    """No span here or below: the context is valid, not sampled, and suppresses others."""
    exchange.found_ids = {}
    exchange.is_bound = True
    exchange.writes_headers = False
    values = _name_trace(exchange, now)
    exchange.context = Context(
        {**values, SPAN_KEY: exchange.span, TRACE_KEY: exchange, **SUPPRESSED}
    )


def _name_trace(exchange: Exchange, now: Context) -> Mapping[str, Any]:
    """Continue or start a trace without recording; returns what the context holds."""
    values, parent, _, preset, _ = _incoming(exchange, now)
    exchange.parent_span_id = None if parent is None else format_span_id(parent.span_id)
    exchange.span = NonRecordingSpan(
        SpanContext(
            (preset or _ids.generate_trace_id()) if parent is None else parent.trace_id,
            _ids.generate_span_id(),
            is_remote=False,
            trace_flags=TraceFlags(TraceFlags.DEFAULT),
            trace_state=None if parent is None else parent.trace_state,
        )
    )
    return values


def _start(exchange: Exchange, now: Context, *, is_alone: bool) -> Mapping[str, Any]:
    """Start our span, whatever the caller sent; returns what the context holds besides it.

    :param is_alone: whether the caller is known to have sent nothing.
    """
    plan = exchange.plan
    fast = plan.fast
    values: Mapping[str, Any] = now
    parent, links, preset, is_trusted = parent_in(now), None, 0, True
    if not is_alone:
        values, parent, links, preset, is_trusted = _incoming(exchange, now)
    if parent is not None:
        exchange.parent_span_id = format_span_id(parent.span_id)
    elif plan.trace_key and is_trusted and not preset:
        # Else a stranger who sends somebody's order id would join its trace.
        key = exchange.ids_if_routed().get(plan.trace_key)
        preset = derive_trace_id(key, plan.hash_key) if key else 0
    if fast is not None and (parent is not None or fast.prediction.knows_roots):
        number, flags, state = trace_for(fast.ids, parent, preset)
        sampled = fast.samples(parent, number)
        trace_id = f"{number:032x}"
        if sampled or (sampled is False and plan.keeps is not None):
            return _record(exchange, fast, trace_id, flags | sampled, parent, links, values)
        if sampled is False:
            span_id = f"{fast.ids.generate_span_id():016x}"
            ids = (trace_id, span_id, exchange.parent_span_id, flags & RANDOM)
            exchange.span_ids = ids
            exchange.span = unsampled = UnsampledSpan()
            unsampled.ids, unsampled.state = ids, state
            return values
    return _ask_tracer(exchange, values, parent, links, preset)


def _incoming(
    exchange: Exchange, now: Context
) -> tuple[dict[str, Any], SpanContext | None, list[Link] | None, int, bool]:
    """The context to start in, the parent, links, a trace id somebody chose (or 0), and whether
    the caller may choose which trace this is.
    """  # noqa: D205 - one sentence
    plan = exchange.plan
    mode = plan.incoming
    if callable(mode):
        try:
            mode = mode(exchange.environ)
        except Exception:  # noqa: BLE001 - whoever makes it fail is not to be trusted
            plan.report("incoming")
            mode = "ignore"
    caller = read_caller(exchange.environ, plan.report)
    exchange.correlation_id = caller.correlation_id
    if mode == "continue":
        values: dict[str, Any] = {**now, **caller.context}
        if caller.trace_id and not caller.span_id and plan.chooses_trace_id:
            values[SPAN_KEY] = INVALID_SPAN
            return values, None, None, caller.trace_id, True
        parent = caller.parent
        if parent is None and caller.trace_id:
            # X-Trace-ID does not say whether the trace is sampled: decided as for a root.
            sampled = samples_root(getattr(plan.tracer, "sampler", None), caller.trace_id)
            parent = remote_parent(caller.trace_id, caller.span_id, sampled=sampled)
        return values, parent or parent_in(now), None, 0, True
    # Nothing of the caller's is taken over: neither sampling nor baggage. What else a middleware
    # around us has put into the context is the application's own.
    values = without_trace(now)
    if mode != "link":
        return values, None, None, 0, False
    linked = caller.parent
    if linked is None and caller.trace_id:
        linked = remote_parent(caller.trace_id, caller.span_id, sampled=False)
    return values, None, [Link(linked)] if linked else None, 0, False


def _record(  # noqa: PLR0913, PLR0917 - what a span is made of
    exchange: Exchange,
    fast: FastPath,
    trace_id: str,
    flags: int,
    parent: SpanContext | None,
    links: list[Link] | None,
    values: Mapping[str, Any],
) -> Mapping[str, Any]:
    """Start a span by the fast path, sampled or held; returns what the context holds.

    :param flags: the span's own W3C trace flags.
    """
    # Reading the body may take the client a while, and belongs to the request.
    start = time_ns()
    plan = exchange.plan
    span_id = fast.ids.generate_span_id()
    if plan.keeps is not None and not flags & _SAMPLED:
        exchange.held, values = plan.keeps.hold(values)
        plan.keeps.begun(span_id, values)
    exchange.span_ids = (trace_id, f"{span_id:016x}", exchange.parent_span_id, flags)
    method = exchange.method
    found = attributes.request_attributes(exchange.environ, method, plan.redactor)
    if plan.request_headers is not None:
        found |= plan.request_headers.attributes(headers_of(exchange.environ))
    ids_later = None
    if plan.finds_ids_when_routed:
        ids_later = exchange.ids_if_routed
    else:
        found |= exchange.ids_if_routed()
    span = exchange.span = fast.spans.start(
        attributes.span_name(method, None),
        trace_id,
        span_id,
        flags,
        parent,
        found,
        links,
        start,
        values,
        ids_later,
    )
    above = values.get(TRACE_KEY)
    if above is not None and above.relayed is not None:
        above.relayed.started(span)
    exchange.is_recording = True
    return values


def _ask_tracer(
    exchange: Exchange,
    values: Mapping[str, Any],
    parent: SpanContext | None,
    links: list[Link] | None,
    trace_id: int,
) -> Mapping[str, Any]:
    """Have the tracer decide and make the span; returns what the context holds.

    It is told all that is known.

    :param trace_id: the trace's, 0 for one of the tracer's own.
    """
    plan = exchange.plan
    start = time_ns()
    found = attributes.request_attributes(exchange.environ, exchange.method, plan.redactor)
    if plan.request_headers is not None:
        found |= plan.request_headers.attributes(headers_of(exchange.environ))
    found |= exchange.ids_if_routed()
    holding = values
    if plan.keeps is not None:
        exchange.held, holding = plan.keeps.hold(values)
    below = holding
    if parent is not None and parent.is_remote:
        below = {**holding, SPAN_KEY: NonRecordingSpan(parent)}
    token = preset_trace_id.set(trace_id) if trace_id else None
    try:
        exchange.span = plan.tracer.start_span(
            attributes.span_name(exchange.method, None),
            Context(below),
            SpanKind.SERVER,
            found,
            links,
            start,
        )
    finally:
        if token is not None:
            preset_trace_id.reset(token)
    exchange.is_recording = exchange.span.is_recording()
    if exchange.span.get_span_context().trace_flags & _SAMPLED:
        exchange.held = None
        return values
    return holding


def _is_server_span_of_another(now: Context) -> bool:
    """Whether OpenTelemetry's own middleware already started this request's server span.

    The server span of one of our requests that calls an application in its own process is not it.
    """
    span: Any = now[SPAN_KEY]
    if getattr(span, "kind", None) is not SpanKind.SERVER:
        return False
    ours = now.get(TRACE_KEY)
    return not (isinstance(ours, Exchange) and ours.span is span)
