"""What one application's requests need, made from its settings once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import re

    from _typeshed.wsgi import WSGIEnvironment
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from flask_bodytrace.body.cached import BodyRules
    from flask_bodytrace.calls.relay import Relay
    from flask_bodytrace.ids.extractor import IdExtractor
    from flask_bodytrace.otel.fast_span import Recorder
    from flask_bodytrace.trace.capture import BodyCapture
    from flask_bodytrace.trace.headers import HeaderWriter
    from flask_bodytrace.trace.metrics import ServerMetrics
    from flask_bodytrace.trace.redact import Redactor


_log = logging.getLogger("flask_bodytrace")


class Route(NamedTuple):
    """What a framework knows of a request once its URL is matched."""

    rule: str | None
    arguments: Mapping[str, Any]


@dataclass(slots=True, eq=False)
class Plan:
    """What the settings of one application were made into, once: plain values and callables.

    :param route_of: environ -> what the framework matched; None before that, or if it cannot tell.
    :param late_span: whether somebody else starts the server span after us; None as long as nobody
        does, which may change any time.
    :param recorder: makes our spans; None where the tracer has to make them.
    :param span_of: environ -> the server span somebody else started since; None before that.
    """

    provider: TracerProvider
    tracer: Tracer
    bodies: BodyRules
    ids: IdExtractor
    scan_limit: int
    trace_key: str
    hash_key: str = field(repr=False)
    baggage: bool
    incoming: Any
    excluded: re.Pattern[str] | None
    headers: HeaderWriter | None
    metrics: ServerMetrics | None
    capture: BodyCapture | None
    redactor: Redactor
    chooses_trace_id: bool
    captures_request_headers: bool
    captures_response_headers: bool
    route_of: Callable[[WSGIEnvironment], Route | None] = lambda _environ: None
    late_span: Callable[[], bool] | None = None
    span_of: Callable[[WSGIEnvironment], Span | None] = lambda _environ: None
    logs: bool = False
    relay: Relay | None = None
    recorder: Recorder | None = None
    is_direct: bool = False
    """Whether nothing of the application's own comes between us and Flask's own ``wsgi_app``."""
    service_name: str = ""
    reported: set[str] = field(default_factory=set)

    def report(self, stage: str) -> None:
        """Log the current exception, the first time anything fails at `stage`."""
        if stage not in self.reported:
            self.reported.add(stage)
            _log.exception("tracing failed at %r; the request goes on without (logged once)", stage)
