"""What one request is, from its beginning to the end of its answer. What happens to it is in the
modules beside: begin, bind, respond, finish.
"""  # noqa: D205 - one sentence

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span, format_span_id, format_trace_id

from flask_bodytrace.ids.rules import check_name
from flask_bodytrace.ids.sources import IdSources, scan
from flask_bodytrace.ids.value import id_text
from flask_bodytrace.otel.context import BAGGAGE_KEY, NOTHING, attach, current
from flask_bodytrace.trace.attributes import OTHER
from flask_bodytrace.trace.current import TRACE_KEY, RequestTrace

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

    from flask_bodytrace.body.cached import CachedBody
    from flask_bodytrace.calls.relay import RelayedCalls
    from flask_bodytrace.capture.record import Answer
    from flask_bodytrace.otel.keeping import Held
    from flask_bodytrace.otel.sampling import SpanIds
    from flask_bodytrace.trace.header_writer import Written
    from flask_bodytrace.trace.metrics import Started

    from .plan import Plan


class Exchange(RequestTrace):
    """One request and its answer; to the application it is ``g.trace``.

    State only. What users see of it is documented on `RequestTrace`.
    """

    # Slots: reading one is quicker than reading a default of the class.
    __slots__ = (
        "answer",
        "awaits_span",
        "complete",
        "counted",
        "enclosing",
        "environ",
        "error",
        "found_ids",
        "given_ids",
        "held",
        "id_sources",
        "ids_unread",
        "is_bound",
        "is_broken",
        "is_over",
        "is_recording",
        "method",
        "owns_span",
        "plan",
        "relayed",
        "remaining",
        "route",
        "server_start_response",
        "span_ids",
        "start_response",
        "started",
        "status",
        "writes_headers",
        "written",
    )

    def __init__(  # noqa: PLR0915 - one line for each field
        self,
        plan: Plan,
        environ: WSGIEnvironment,
        start_response: StartResponse,
        body: CachedBody,
        awaits_span: bool,
    ) -> None:
        self.body = body
        self.context = NOTHING
        self.correlation_id = None
        self.parent_span_id = None
        self.span = INVALID_SPAN
        self.plan = plan
        self.environ = environ
        self.answer: Answer | None = None
        """What is captured of the answer."""
        self.awaits_span = awaits_span
        """Whether somebody else is still to start the server span."""
        self.complete: list[bytes] | None = None
        """All of the answer, if it is there and nothing of the application runs to send it."""
        self.counted: Started | None = None
        """What the request was counted under as an active one."""
        self.enclosing: Exchange | None = None
        """The same request as an application around this one sees it."""
        self.error: BaseException | None = None
        self.found_ids: dict[str, str] | None = None
        """The business ids; None until they are looked for."""
        self.given_ids: dict[str, str] | None = None
        """The ids that the application set."""
        self.held: Held | None = None
        """Its spans, if they are held until it is over."""
        self.id_sources: IdSources | None = None
        self.ids_unread: str | None = None
        """Why the body was not searched for ids, or not to its end; None if it was."""
        self.is_bound = False
        """Whether the URL was matched."""
        self.is_broken = False
        """Whether an exception reached the server, so that the answer is void."""
        self.is_over = False
        self.is_recording = False
        """Whether the span takes attributes."""
        method = environ.get("REQUEST_METHOD", "")
        self.method = method if method in plan.known_methods else OTHER
        """The request's method, or ``_OTHER``."""
        self.owns_span = False
        """Whether the span is ours to end."""
        self.relayed: RelayedCalls | None = None
        self.remaining = -1
        """Bytes of the answer that have not gone out; negative where it does not say how many."""
        self.route: str | None = None
        self.server_start_response = start_response
        self.start_response: StartResponse = start_response
        """What the application gets."""
        self.span_ids: SpanIds | None = None
        """The span's ids in hex; None until they are needed."""
        self.started = 0.0
        """`perf_counter` seconds."""
        self.status: int | None = None
        self.writes_headers = True
        self.written: Written | None = None
        """The trace headers that the framework's response got; None if it was none of its own."""

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids known so far; those of the URL's arguments join when it is matched."""
        if self.plan.ids.reads_path and not self.is_bound:
            route = self.plan.route_of(self.environ)
            if route is not None:
                self.found_ids = {**self.look_for_ids(route.arguments), **(self.given_ids or {})}
        return MappingProxyType(self.find_ids())

    @property
    def known_ids(self) -> Mapping[str, str]:
        """The ids for a log record, which does not wait for a body that is being read."""
        if self.found_ids is None and not self.body.is_being_read:
            # For records that are logged while the ids are looked for.
            self.found_ids = {}
            self.found_ids = None if self._is_refused() else self.look_for_ids({})
        return self.found_ids or {}

    @property
    def logs(self) -> bool:
        """Whether ``BODYTRACE_LOGS`` is on."""
        return self.plan.logs

    @property
    def service_name(self) -> str:
        """The resource's ``service.name``."""
        return self.plan.service_name

    def find_ids(self) -> dict[str, str]:
        """The business ids, looked for at the first call."""
        if self.found_ids is None:
            self.found_ids = self.look_for_ids({})
        return self.found_ids

    def ids_if_routed(self) -> dict[str, str]:
        """The business ids; none where nothing will handle the request."""
        return {} if self.found_ids is None and self._is_refused() else self.find_ids()

    def _is_refused(self) -> bool:
        """Whether nobody is to wait for the body, as finding ids in it does: no route matches."""
        plan = self.plan
        return bool(
            plan.ids.steps
            and plan.has_route is not None
            and self.body.declared != 0
            and not plan.has_route(self.environ)
        )

    def set_id(self, name: str, value: object) -> bool:
        """As documented on `RequestTrace`."""
        check_name(name)
        text = id_text(value)
        if text is None:
            return False
        hasher = self.plan.ids.hashers.get(name)
        given = {name: text if hasher is None else hasher(text)}
        self.given_ids = {**(self.given_ids or {}), **given}
        self.found_ids = {**self.find_ids(), **given}
        if self.span.is_recording():
            self.span.set_attributes(given)
        if self.plan.baggage and not self.is_over:
            self._send_on(given)
        if self.enclosing is not None:
            self.enclosing.set_id(name, value)
        return True

    def _send_on(self, ids: Mapping[str, str]) -> None:
        """Add to the baggage, also in the contexts of spans that are open within the request."""
        shared = self.context.get(BAGGAGE_KEY)
        if type(shared) is dict:
            shared.update(ids)
        else:
            self.context = Context(with_ids(self.context, ids))
        if current().get(BAGGAGE_KEY) is not shared or shared is None:
            # Undone by `run`, which goes back to what was before its own attach.
            attach(Context(with_ids(current(), ids)))

    def look_for_ids(self, arguments: Mapping[str, Any]) -> dict[str, str]:
        """The business ids in body, query, headers and the URL's arguments."""
        plan = self.plan
        if not plan.ids.steps:
            return {}
        try:
            if plan.ids.paths is not None:
                found, self.ids_unread = scan(plan.ids, plan.scan_limit, self.environ, self.body)
                return plan.ids.choose_found(found)
            if self.id_sources is None:
                self.id_sources = IdSources(plan.ids, plan.scan_limit, self.environ, self.body)
            ids = self.id_sources.find(arguments)
            self.ids_unread = self.id_sources.unread
            return ids  # noqa: TRY300 - it may fail while finding
        except Exception:  # noqa: BLE001 - no id is no reason to fail
            plan.report("ids")
            return {}

    def adopt(self, span: Span) -> None:
        """Enrich the server span of another instrumentation, instead of adding a second one."""
        self.span = span
        self.span_ids = None
        parent = getattr(span, "parent", None)
        self.parent_span_id = None if parent is None else format_span_id(parent.span_id)
        self.is_recording = span.is_recording()
        if self.is_recording and self.find_ids():
            span.set_attributes(self.find_ids())

    def adopt_awaited(self) -> None:
        """Adopt the span that another instrumentation was to start, if it has."""
        span = self.plan.span_of(self.environ)
        if span is not None:
            self.awaits_span = False
            self.adopt(span)

    def share_ids(self) -> None:
        """Put the ids into the context's baggage, if ``BODYTRACE_BAGGAGE`` is on."""
        if self.plan.baggage:
            values = with_ids(self.context, self.find_ids())
            self.context = Context({**values, TRACE_KEY: self})

    def named_span(self) -> SpanIds | None:
        """The span's ids for headers; None if it is the caller's span, as without an SDK."""
        trace_id, span_id, is_remote, flags, _, is_valid = self.span.get_span_context()
        if is_remote or not is_valid:
            return None
        return format_trace_id(trace_id), format_span_id(span_id), self.parent_span_id, flags


def with_ids(values: Mapping[str, Any], ids: Mapping[str, str]) -> Mapping[str, Any]:
    """What a context holds, and the ids in its baggage: a mapping of its own, even if empty."""
    return {**values, BAGGAGE_KEY: {**(values.get(BAGGAGE_KEY) or {}), **ids}}
