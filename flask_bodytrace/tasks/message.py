"""What a task's message carries, and the context that a worker makes of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import MappingProxyType
from urllib.parse import quote, unquote

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.trace import get_current_span

from flask_bodytrace import logs
from flask_bodytrace.log_once import LogOnce
from flask_bodytrace.otel.context import SPAN_KEY, attach, current, detach
from flask_bodytrace.trace.current import TRACE_KEY, RequestTrace, current_trace

IDS_HEADER = "bodytrace-ids"
"""The business ids as ``name=value`` pairs separated by commas, percent-encoded."""
_MAX_IDS = 64
_MAX_SIZE = 16 * 1024
_report = LogOnce("a task's trace is lost: a propagator failed at '%s'")


class TaskTrace(RequestTrace):
    """The trace of the request that a task comes from, as `current_trace` gives it to a worker.

    It has no `body`: that stayed with the request.
    """

    __slots__ = ("_ids", "service_name")

    logs = True

    def __init__(self, context: Context, ids: Mapping[str, str], service_name: str) -> None:
        self.context = context
        self.correlation_id = None
        self.parent_span_id = None
        self.span = get_current_span(context)
        self.service_name = service_name
        self._ids = dict(ids)

    @property
    def ids(self) -> Mapping[str, str]:
        """The business ids of the request; read-only."""
        return MappingProxyType(self._ids)

    known_ids = ids


def task_headers() -> dict[str, str]:
    """Headers for a message: the current trace by the configured propagators, and the ids.

    Empty outside of a request and of any span.
    """
    headers: dict[str, str] = {}
    try:
        propagate.inject(headers)
    except Exception:  # noqa: BLE001 - the task is sent all the same
        _report("inject")
    trace = current_trace()
    if trace is not None and trace.ids:
        pairs = (f"{quote(name)}={quote(value)}" for name, value in trace.ids.items())
        headers[IDS_HEADER] = ",".join(pairs)
    return headers


@contextmanager
def in_task(headers: Mapping[str, object]) -> Iterator[None]:
    """Run a task inside the trace that its message's `headers` name.

    The span that is current already, such as that of OpenTelemetry's own instrumentation, stays.
    Log records made inside have the trace and the ids.

    :param headers: as `task_headers` made them; others are not looked at, malformed ones neither.
    """
    token = attach(context_of(headers))
    try:
        yield
    finally:
        detach(token)


def context_of(headers: Mapping[str, object]) -> Context:
    """The context that `in_task` runs a task in."""
    logs.install()
    now = current()
    carrier = {name: value for name, value in headers.items() if isinstance(value, str)}
    context = now
    try:
        context = propagate.extract(carrier, now)
    except Exception:  # noqa: BLE001 - the task runs all the same
        _report("extract")
    if get_current_span(now).get_span_context().is_valid:
        context = Context({**context, SPAN_KEY: now[SPAN_KEY]})
    ids = _read_ids(carrier.get(IDS_HEADER, ""))
    return Context({**context, TRACE_KEY: TaskTrace(context, ids, _service_name())})


def _read_ids(text: str) -> dict[str, str]:
    ids: dict[str, str] = {}
    if len(text) > _MAX_SIZE:
        return ids
    for pair in text.split(",")[:_MAX_IDS]:
        name, equals, value = pair.partition("=")
        if equals and name:
            ids[unquote(name)] = unquote(value)
    return ids


# Once a process: making a resource runs its detectors.
@cache
def _service_name() -> str:
    return str(Resource.create().attributes.get(SERVICE_NAME, ""))
