"""The metrics: HTTP server instruments by the stable conventions, and the body pool's figures."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.semconv._incubating.metrics.http_metrics import (
    create_http_server_active_requests,
    create_http_server_request_body_size,
)
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION
from opentelemetry.semconv.schemas import Schemas

from .version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context

    from .pool import BufferPool

DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10,
)  # fmt: skip
"""Seconds, as the semantic conventions advise."""


class ServerMetrics:
    """``http.server.*``; attributes are bounded: nothing a client invents becomes a series."""

    def __init__(self, provider: MeterProvider | None) -> None:
        meter = metrics.get_meter(
            "flask_bodytrace", __version__, provider, schema_url=Schemas.V1_23_1.value
        )
        self._duration = meter.create_histogram(
            HTTP_SERVER_REQUEST_DURATION,
            unit="s",
            description="Duration of HTTP server requests.",
            explicit_bucket_boundaries_advisory=list(DURATION_BUCKETS),
        )
        self._active = create_http_server_active_requests(meter)
        self._body_size = create_http_server_request_body_size(meter)
        self._bodies = meter.create_counter(
            "bodytrace.body.events",
            unit="{body}",
            description="Bodies spilled to disk, rejected, or passed on unread.",
        )
        self._meter = meter

    def started(self, method: str, scheme: str) -> None:
        """A request came in."""
        self._active.add(1, {"http.request.method": method, "url.scheme": scheme})

    def finished(
        self,
        method: str,
        scheme: str,
        *,
        seconds: float,
        status: int | None,
        route: str | None,
        error_type: str | None,
        body_size: int | None,
        context: Context | None,
    ) -> None:
        """A request is over; `context` lets exemplars point at its span."""
        self._active.add(-1, {"http.request.method": method, "url.scheme": scheme})
        attributes: dict[str, Any] = {"http.request.method": method, "url.scheme": scheme}
        if status is not None:
            attributes["http.response.status_code"] = status
        if route is not None:
            attributes["http.route"] = route
        if error_type is not None:
            attributes["error.type"] = error_type
        self._duration.record(seconds, attributes, context)
        if body_size:
            self._body_size.record(body_size, attributes, context)

    def body_event(self, event: str) -> None:
        """A body was ``spilled``, ``rejected`` or ``passed``."""
        self._bodies.add(1, {"event": event})

    def observe(self, pool: BufferPool) -> None:
        """Report the pool's figures whenever metrics are collected."""

        def observing(figure: Callable[[], int]) -> Callable[[CallbackOptions], Iterable[Any]]:
            return lambda _options: [Observation(figure())]

        self._meter.create_observable_counter(
            "bodytrace.pool.hits", [observing(lambda: pool.hits)], unit="{buffer}"
        )
        self._meter.create_observable_counter(
            "bodytrace.pool.misses", [observing(lambda: pool.misses)], unit="{buffer}"
        )
        self._meter.create_observable_up_down_counter(
            "bodytrace.pool.kept", [observing(lambda: pool.kept_bytes)], unit="By"
        )
