"""One request's life: begin, bind, respond, finish. The whole flow is on this page.

Framework-free: it knows WSGI. State lives on the environ; instrumentation that fails is logged
once per kind and leaves the application's answer as it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from time import perf_counter, time_ns
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry import context as otel_context
from opentelemetry.baggage import _BAGGAGE_KEY
from opentelemetry.context import (
    _SUPPRESS_HTTP_INSTRUMENTATION_KEY,
    _SUPPRESS_INSTRUMENTATION_KEY,
    Context,
)
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.trace import (
    INVALID_SPAN,
    Link,
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    format_span_id,
    format_trace_id,
    get_current_span,
)
from opentelemetry.trace.propagation import _SPAN_KEY

from flask_bodytrace.body.cached import CachedBody
from flask_bodytrace.body.stream import BodyStream
from flask_bodytrace.ids.hash import derive_trace_id
from flask_bodytrace.ids.sources import IdSources, scan
from flask_bodytrace.otel import context as runtime
from flask_bodytrace.otel import fast_span as recording
from flask_bodytrace.otel.fast_span import ServerSpan
from flask_bodytrace.otel.id_generator import preset_trace_id
from flask_bodytrace.otel.sampling import UnsampledSpan
from flask_bodytrace.trace import attributes as spans
from flask_bodytrace.trace import incoming as propagation
from flask_bodytrace.trace.current import TRACE_KEY, RequestTrace

from .response import TracedResponse, dropped, end_dropped, is_file

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from flask_bodytrace.calls.relay import RelayedCalls
    from flask_bodytrace.otel.fast_span import Recorder
    from flask_bodytrace.trace.capture import BodyCapture
    from flask_bodytrace.trace.headers import Names
    from flask_bodytrace.trace.metrics import Started

    from .plan import Plan, Route


_ids = RandomIdGenerator()
_NOTHING = Context()
_BODYLESS = frozenset({204, 304})
_RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
_SAMPLED = int(TraceFlags.SAMPLED)
_LENGTH_SIZE = len("Content-Length")


def run(
    plan: Plan, app: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Answer one request through `app`, traced."""
    if dropped:
        end_dropped()
    try:
        exchange = Exchange(plan, environ, start_response)
        token = runtime.attach(exchange.context)
    except Exception:  # noqa: BLE001 - the application must get the request
        plan.report("begin")
        return app(environ, start_response)
    try:
        iterable = app(environ, exchange.start_response)
        if not exchange.is_complete:
            return exchange.stream(iterable)
        if exchange.is_recording or exchange._counted is not None:
            exchange.end_span()
        return iterable  # noqa: TRY300 - what comes of it is not ours to catch
    except BaseException as error:
        exchange.broke(error)
        exchange.finish()
        raise
    finally:
        runtime.detach(token)


class Exchange:
    """One request and its answer."""

    # Slots: reading one takes a third of what reading a default of the class does.
    __slots__ = (
        "__weakref__",
        "_bound",
        "_broken",
        "_counted",
        "_environ",
        "_error",
        "_finished",
        "_ids",
        "_late",
        "_names",
        "_outer",
        "_owner",
        "_route",
        "_sources",
        "_start",
        "_start_response",
        "_status",
        "_trace",
        "_writes_headers",
        "awaited_by",
        "body",
        "calls",
        "context",
        "correlation_id",
        "is_complete",
        "is_recording",
        "parent_span_id",
        "plan",
        "remaining",
        "span",
    )

    def __init__(self, plan: Plan, environ: WSGIEnvironment, start_response: StartResponse) -> None:
        """Begin: body replaced, ids found, span started; nothing is attached yet."""
        self.plan = plan
        self._environ = environ
        self._start_response = start_response
        self._bound = False
        self._broken = False
        self._counted: Started | None = None
        self._error: BaseException | None = None
        self._finished = False
        self._ids: dict[str, str] | None = None
        self._late = False
        self._names: Names | None = None
        self._outer: Exchange | None = None
        self._owner = False
        self._route: str | None = None
        self._sources: IdSources | None = None
        self._status: int | None = None
        self._trace: RequestTrace | None = None
        self._writes_headers = True
        self.awaited_by: Plan | None = plan
        """Whose application is to dispatch this request, until it does."""
        self.calls: RelayedCalls | None = None
        self.correlation_id: str | None = None
        self.is_complete = False
        """Whether the answer is all there when the application returns, and its close() is ours."""
        self.is_recording = False
        """Whether the span takes attributes."""
        self.parent_span_id: str | None = None
        self.remaining = -1
        """Bytes of the answer that have not gone out; negative where it does not say how many."""
        self.span: Span = INVALID_SPAN
        stream = environ["wsgi.input"]
        if type(stream) is BodyStream and not stream.body.closed:
            self.body = stream.body
        else:
            self.body = CachedBody(environ, plan.bodies)
        outer = environ.get(TRACE_KEY)
        if outer is not None and not outer._finished:
            self._outer = outer
            self._writes_headers = False
        environ[TRACE_KEY] = self
        if plan.relay is not None:
            self.calls = plan.relay.begin()
        current = self.context = runtime.current()
        try:
            self._begin(current)
        except Exception:  # noqa: BLE001 - the application must get the request
            plan.report("begin")
        if self.context is current:
            self.context = Context({**current, TRACE_KEY: self})

    @property
    def _method(self) -> str:
        method: str = self._environ.get("REQUEST_METHOD", "")
        return method if method in spans.METHODS else "_OTHER"

    # Begin

    def _begin(self, current: Context) -> None:
        """Find out whose span it is: nobody's, an outer application's, another's or ours."""
        plan = self.plan
        outer = self._outer
        span: Any = current.get(_SPAN_KEY)
        if outer is not None:
            self._late = outer._late
            self.calls = outer.calls
            if current.get(_SUPPRESS_INSTRUMENTATION_KEY):
                self._ids = {}
            self._adopt(outer.span)
            self.parent_span_id = outer.parent_span_id
            self._share_ids()
        elif plan.excluded is not None and plan.excluded.search(_url(self._environ)):
            self._exclude(current)
        elif span is not None and _is_server_span_of_another(span):
            self._adopt(span)
            self._share_ids()
        elif plan.late_span is not None and plan.late_span():
            self._late = True
            self._share_ids()
        else:
            self._owner = True
            values = self._start_span(current)
            if plan.baggage:
                values = self._with_ids(values)
            self.context = Context({**values, _SPAN_KEY: self.span, TRACE_KEY: self})
            if plan.captures_request_headers and self.is_recording:
                spans.capture_request_headers(self.span, self._environ)
            if plan.metrics is not None and plan.metrics.recording:
                scheme = self._environ.get("wsgi.url_scheme", "http")
                self._counted = plan.metrics.started(self._method, scheme)
                self._start = perf_counter()

    def _start_span(self, current: Context) -> Mapping[str, Any]:
        """Start our own span; returns what the context holds besides it."""
        plan = self.plan
        recorder = plan.recorder
        plain = None
        if recorder is not None and plan.incoming == "continue":
            plain = propagation.skim(self._environ)
            if plain and self._continue(recorder, plain, current):
                return current
        values: Mapping[str, Any] = current
        above, links, preset = _local_parent(current), None, 0
        if plain != ():
            values, above, links, preset = self._incoming(current)
        if above is not None:
            self.parent_span_id = format_span_id(above.span_id)
        elif plan.trace_key and not preset:
            key = self._found_ids().get(plan.trace_key)
            preset = derive_trace_id(key, plan.hash_key) if key else 0
        if recorder is not None and (above is not None or recorder.foresight.knows_roots):
            number, flags, state = recorder.foresight.trace(above, preset)
            sampled = recorder.foresight.samples(above, number)
            trace_id = f"{number:032x}"
            if sampled is False:
                self._go_unsampled(recorder, trace_id, flags, state)
                return values
            if sampled:
                self._record(recorder, trace_id, flags, above, links, values)
                return values
        self._have_recorded(values, above, links, preset)
        return values

    def _continue(self, recorder: Recorder, plain: tuple[str, str, int], current: Context) -> bool:
        """Go on below a caller that says nothing but its traceparent, in half the steps.

        Returns whether it can be told what becomes of it.
        """
        trace_id, self.parent_span_id, flags = plain
        sampled = recorder.foresight.below(trace_id, flags)
        if sampled is False:
            # Nobody needs the ids as numbers.
            self._go_unsampled(recorder, trace_id, flags, None)
        elif sampled:
            parent = recording.span_context(
                int(trace_id, 16), int(self.parent_span_id, 16), flags, None, is_remote=True
            )
            self._record(recorder, trace_id, flags, parent, None, current)
        return sampled is not None

    def _record(  # noqa: PLR0913, PLR0917 - what a span is made of
        self,
        recorder: Recorder,
        trace_id: str,
        flags: int,
        parent: SpanContext | None,
        links: list[Link] | None,
        values: Mapping[str, Any],
    ) -> None:
        """Start a span that is sampled."""
        # Reading the body may take the client a while, and belongs to the request.
        start = time_ns()
        span_id = recorder.generator.generate_span_id()
        flags = flags & _RANDOM | _SAMPLED
        self._names = (trace_id, f"{span_id:016x}", self.parent_span_id, flags)
        if parent is None:
            number, state = int(trace_id, 16), None
        else:
            # A tuple, so that its properties need not be called one by one.
            number, _, _, _, state, _ = parent
        method = self._method
        attributes = spans.request_attributes(self._environ, method, self.plan.redactor)
        attributes |= self._found_ids()
        span = self.span = recorder.start(
            spans.span_name(method, None),
            recording.span_context(number, span_id, flags, state, is_remote=False),
            parent,
            attributes,
            links,
            start,
            values,
        )
        above = values.get(TRACE_KEY)
        if above is not None and above.calls is not None:
            above.calls.started(span)
        self.is_recording = True

    def _have_recorded(
        self,
        values: Mapping[str, Any],
        parent: SpanContext | None,
        links: list[Link] | None,
        trace_id: int,
    ) -> None:
        """Have the tracer decide and make the span; whatever it is, it is asked with all we know.

        :param trace_id: 0 for one of its own.
        """
        plan = self.plan
        start = time_ns()
        attributes = spans.request_attributes(self._environ, self._method, plan.redactor)
        attributes |= self._found_ids()
        if parent is not None and parent.is_remote:
            values = {**values, _SPAN_KEY: NonRecordingSpan(parent)}
        token = preset_trace_id.set(trace_id) if trace_id else None
        try:
            self.span = plan.tracer.start_span(
                spans.span_name(self._method, None),
                Context(values),
                SpanKind.SERVER,
                attributes,
                links,
                start,
            )
        finally:
            if token is not None:
                preset_trace_id.reset(token)
        self.is_recording = self.span.is_recording()

    def _go_unsampled(
        self, recorder: Recorder, trace_id: str, flags: int, state: TraceState | None
    ) -> None:
        """Go on without recording; ids are looked for when somebody asks for them."""
        span_id = f"{recorder.generator.generate_span_id():016x}"
        names = self._names = (trace_id, span_id, self.parent_span_id, flags & _RANDOM)
        self.span = UnsampledSpan(names, state)

    def _with_ids(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        """`values` with the ids as baggage, for services further down."""
        ids = self._found_ids()
        if not ids:
            return values
        return {**values, _BAGGAGE_KEY: {**(values.get(_BAGGAGE_KEY) or {}), **ids}}

    def _incoming(
        self, current: Context
    ) -> tuple[dict[str, Any], SpanContext | None, list[Link] | None, int]:
        """The context to start in, the parent, links, and a trace id somebody chose (or 0)."""
        plan = self.plan
        mode = plan.incoming
        if callable(mode):
            mode = mode(self._environ)
        caller = propagation.read(self._environ)
        self.correlation_id = caller.correlation_id
        if mode == "continue":
            values: dict[str, Any] = {**current, **caller.context}
            if caller.trace_id and not caller.span_id and plan.chooses_trace_id:
                values[_SPAN_KEY] = INVALID_SPAN
                return values, None, None, caller.trace_id
            parent = caller.parent or caller.named_parent() or _local_parent(current)
            return values, parent, None, 0
        parent = caller.parent or caller.named_parent()
        # Nothing of the caller's is taken over: neither sampling nor baggage.
        return {}, None, [Link(parent)] if mode == "link" and parent else None, 0

    def _adopt(self, span: Span) -> None:
        """Enrich the server span somebody else started, instead of doubling it."""
        self.span = span
        self._names = None
        parent = getattr(span, "parent", None)
        self.parent_span_id = None if parent is None else format_span_id(parent.span_id)
        self.is_recording = span.is_recording()
        if self.is_recording and self._found_ids():
            span.set_attributes(self._found_ids())

    def _share_ids(self) -> None:
        """Give the ids to services further down, if they are to have them."""
        if self.plan.baggage:
            self.context = Context({**self._with_ids(self.context), TRACE_KEY: self})

    def _exclude(self, current: Context) -> None:
        """No span, and none below: the context is valid but not sampled, and says so."""
        self._ids = {}
        self._writes_headers = False
        values, parent, _, preset = self._incoming(current)
        self.parent_span_id = None if parent is None else format_span_id(parent.span_id)
        self.span = NonRecordingSpan(
            SpanContext(
                (preset or _ids.generate_trace_id()) if parent is None else parent.trace_id,
                _ids.generate_span_id(),
                is_remote=False,
                trace_flags=TraceFlags(TraceFlags.DEFAULT),
                trace_state=None if parent is None else parent.trace_state,
            )
        )
        self._bound = True
        self.context = Context(
            {
                **values,
                _SPAN_KEY: self.span,
                TRACE_KEY: self,
                _SUPPRESS_INSTRUMENTATION_KEY: True,
                _SUPPRESS_HTTP_INSTRUMENTATION_KEY: True,
            }
        )

    # Ids

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids known so far; those of the URL's arguments join when it is matched."""
        if self.plan.ids.reads_path:
            self.bind()
        return MappingProxyType(self._found_ids())

    def _found_ids(self) -> dict[str, str]:
        if self._ids is None:
            self._ids = self._find_ids({})
        return self._ids

    @property
    def known_ids(self) -> Mapping[str, str]:
        """The ids as a log record may have them: one made while reading makes nobody read."""
        if self._ids is None and not self.body.is_being_read:
            # For what is logged while looking.
            self._ids = {}
            self._ids = self._find_ids({})
        return self._ids or {}

    @property
    def logs(self) -> bool:
        """Whether ``BODYTRACE_LOGS`` is on."""
        return self.plan.logs

    @property
    def service_name(self) -> str:
        """The resource's ``service.name``."""
        return self.plan.service_name

    def _find_ids(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        plan = self.plan
        if not plan.ids.order:
            return {}
        try:
            if plan.ids.paths is not None:
                found = scan(plan.ids, plan.scan_limit, self._environ, self.body)
                return plan.ids.choose_found(found)
            if self._sources is None:
                self._sources = IdSources(plan.ids, plan.scan_limit, self._environ, self.body)
            return self._sources.find(arguments)
        except Exception:  # noqa: BLE001 - no id is no reason to fail
            plan.report("ids")
            return {}

    # Bind

    @property
    def trace(self) -> RequestTrace:
        """What ``g.trace`` is."""
        if self._late:
            self._adopt_late()
        if self._trace is None:
            self._trace = RequestTrace(self)
        return self._trace

    def _adopt_late(self) -> None:
        """Take the span that OpenTelemetry's instrumentation started meanwhile, if it did."""
        span = self.plan.span_of(self._environ)
        if span is not None:
            self._late = False
            self._adopt(span)

    def take_over(self) -> None:
        """Go on below the span that OpenTelemetry's instrumentation has just started.

        The context it attaches holds nothing of what was current before.
        """
        try:
            if self._late:
                self._adopt_late()
                self.context = Context({**runtime.current(), TRACE_KEY: self})
                self._share_ids()
                # Undone by run, which goes back to what was before its own attach.
                runtime.attach(self.context)
                self.bind()
        except Exception:  # noqa: BLE001 - the application must get the request
            self.plan.report("take over")

    def bind(self) -> None:
        """The URL is matched: name the span by its route, take ids from the URL's arguments."""
        if self._bound:
            return
        try:
            route = self.plan.route_of(self._environ)
            if route is not None:
                self._bound = True
                self._bind(route)
        except Exception:  # noqa: BLE001 - the application must get the request
            self.plan.report("bind")

    def _bind(self, route: Route) -> None:
        self._route = route.rule
        span = self.span
        if self.plan.ids.reads_path:
            self._ids = self._find_ids(route.arguments)
            if self.is_recording and self._ids:
                span.set_attributes(self._ids)
            if self.plan.baggage:
                self._share_ids()
                # Undone by run, which goes back to what was before its own attach.
                runtime.attach(self.context)
        if route.rule is None or not self.is_recording:
            return
        if isinstance(span, ServerSpan) and self._owner and self._status is None:
            span.matched(route.rule)
            return
        name = spans.span_name(self._method, route.rule)
        unmatched = spans.span_name(self._method, None)
        # Only if nobody else did: an application may call update_name itself. The second is what
        # OpenTelemetry's instrumentations call it.
        path = "" if self._owner else self._environ.get("PATH_INFO", "").strip()
        if getattr(span, "name", None) in {unmatched, f"{unmatched} {path}"}:
            span.update_name(name)
        if "http.route" not in (getattr(span, "attributes", None) or ()):
            span.set_attribute("http.route", route.rule)

    # Respond

    def start_response(  # noqa: C901 - one line for each thing that may be wanted
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None, /
    ) -> Callable[[bytes], object]:
        """The server's, with the trace headers added, on every status."""
        plan = self.plan
        try:
            self._status = _code_of(status)
            if self._late:
                self._adopt_late()
            if self.is_recording or self._counted is not None or self.calls is not None:
                self.bind()
            if not self.is_complete:
                self.remaining = self._promised(headers)
            if not self.body.complete and self.body.settle():
                headers = [*headers, ("Connection", "close")]
            if plan.captures_response_headers and self.is_recording and self._owner:
                spans.capture_response_headers(self.span, headers)
            if plan.headers is not None and self._writes_headers:
                names = self._names or self._named()
                if names is not None:
                    calls = None if self.calls is None else self._relayed(self.calls, names)
                    headers = plan.headers.write(headers, names, calls)
            if plan.capture is not None and plan.span_of(self._environ) is self.span:
                # OpenTelemetry's Flask instrumentation ends its span before the answer is out.
                self._capture_body(plan.capture)
        except Exception:  # noqa: BLE001 - the answer goes out as it is
            plan.report("respond")
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def _named(self) -> Names | None:
        """The span as headers name it; None if it is none of ours: without an SDK, the caller's."""
        trace_id, span_id, is_remote, flags, _, is_valid = self.span.get_span_context()
        if is_remote or not is_valid:
            return None
        return format_trace_id(trace_id), format_span_id(span_id), self.parent_span_id, flags

    def _relayed(self, calls: RelayedCalls, names: Names) -> Callable[[int], list[str]]:
        name = getattr(self.span, "name", "") or spans.span_name(self._method, self._route)
        assert self._status is not None
        return calls.metrics(self.span, names, name, self._status)

    def _promised(self, headers: list[tuple[str, str]]) -> int:
        """How many bytes the answer will have, if it says so; else -1."""
        if self._status in _BODYLESS or self._environ.get("REQUEST_METHOD") == "HEAD":
            return 0
        for name, value in headers:
            if len(name) == _LENGTH_SIZE and name.lower() == "content-length" and value.isdigit():
                return int(value)
        return -1

    def failed(self, error: BaseException) -> None:
        """An exception happened, whether or not an error handler answers for it."""
        if error is self._error:
            return
        self._error = error
        if self._outer is not None:
            self._outer.failed(error)
        elif self._owner and self.is_recording:
            try:
                self.span.record_exception(error)
            except Exception:  # noqa: BLE001 - the application's own error is the one to show
                self.plan.report("failed")

    def broke(self, error: BaseException) -> None:
        """An exception went past the application to the server: whatever it answered is void."""
        self._broken = True
        self.failed(error)

    # Finish

    def stream(self, iterable: Iterable[bytes]) -> Iterable[bytes]:
        """What goes to the server: `iterable`, with the context back around every chunk.

        Complete bodies and files that the server sends itself go out as they are.
        """
        # Not list | tuple: that union is made anew each time.
        if isinstance(iterable, (list, tuple)) or is_file(iterable, self._environ):
            self.finish()
            return iterable
        return TracedResponse(self, iterable)

    def end_span(self) -> None:
        """The answer is out: record its outcome, once."""
        if self._finished:
            return
        self._finished = True
        try:
            if self.plan.capture is not None:
                self._capture_body(self.plan.capture)
            self._end_span()
        except Exception:  # noqa: BLE001 - the answer is out already
            self.plan.report("finish")

    def _capture_body(self, capture: BodyCapture) -> None:
        failed = self._error is not None or self._status is None or self._status >= 500
        if not capture.wants(failed=failed):
            return
        if self._outer is not None or not self.span.is_recording():
            return
        try:
            capture.record(self.span, self.body, self._environ)
        except Exception:  # noqa: BLE001 - the span ends all the same
            self.plan.report("capture")

    def _end_span(self) -> None:
        if not self._owner:
            return
        span = self.span
        error_type = None
        status = self._status
        if self.is_recording:
            if (
                status is not None
                and status < 500
                and not self._broken
                and isinstance(span, ServerSpan)
            ):
                span.put("http.response.status_code", status)
            else:
                error_type = spans.set_outcome(span, status, self._error, broken=self._broken)
        elif self._broken or self._status is None or self._status >= 500:
            error_type = str(self._status) if self._error is None else spans.error_type(self._error)
        metrics = self.plan.metrics
        try:
            if metrics is not None and self._counted is not None:
                metrics.finished(
                    self._counted,
                    seconds=perf_counter() - self._start,
                    status=self._status,
                    route=self._route,
                    protocol=self._environ.get("SERVER_PROTOCOL", ""),
                    error_type=error_type,
                    body_size=self.body.size,
                    context=self.context,
                )
        finally:
            span.end()

    def finish(self) -> None:
        """The request is over: span ended, body released; any further call does nothing."""
        if self.is_recording or self._counted is not None:
            self.end_span()
        self._finished = True
        # Its traceback holds the frames that hold this.
        self._error = None
        if self._outer is None:
            self.body.close()
        elif self._environ.get(TRACE_KEY) is self:
            self._environ[TRACE_KEY] = self._outer
        # Whoever keeps the trace keeps its ids and baggage, but nothing refers back to this: else
        # each request waits for the garbage collector, and memory grows cold till then (2 us).
        self._environ = {}
        self._start_response = _is_over
        self._trace = None
        self._sources = None
        shared = self.context.get(_BAGGAGE_KEY)
        self.context = _NOTHING if shared is None else Context({_BAGGAGE_KEY: shared})


# Applications answer with the same few.
@lru_cache(maxsize=64)
def _code_of(status: str) -> int:
    return int(status[:3])


def _is_over(*_: object) -> Any:
    raise RuntimeError("this request is over")


def _local_parent(current: Context) -> SpanContext | None:
    if _SPAN_KEY not in current:
        return None
    parent = get_current_span(current).get_span_context()
    return parent if parent.is_valid else None


def _is_server_span_of_another(span: Span) -> bool:
    """Whether OpenTelemetry's own middleware already started this request's server span.

    The server span of one of our requests that calls an application in its own process is not it.
    """
    if getattr(span, "kind", None) is not SpanKind.SERVER:
        return False
    ours: Any = otel_context.get_value(TRACE_KEY)
    return ours is None or ours.span is not span


def _url(environ: WSGIEnvironment) -> str:
    host = environ.get("HTTP_HOST") or environ.get("SERVER_NAME", "")
    path = environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")
    return f"{environ.get('wsgi.url_scheme', 'http')}://{host}{path}"
