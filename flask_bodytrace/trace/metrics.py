"""The metrics: HTTP server instruments by the stable conventions, and what became of bodies.

Attributes are bounded: methods, schemes and protocol versions that a client can invent become
``_OTHER`` or are left out, and a path is never one.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from opentelemetry import metrics
from opentelemetry.metrics import (
    CallbackOptions,
    MeterProvider,
    NoOpMeterProvider,
    Observation,
)
from opentelemetry.semconv.metrics.http_metrics import HTTP_SERVER_REQUEST_DURATION
from opentelemetry.semconv.schemas import Schemas

from flask_bodytrace.otel.instruments import is_recording
from flask_bodytrace.otel.registry import IdentityRegistry
from flask_bodytrace.version import __version__

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import Meter

    from flask_bodytrace.body.pool import BufferPool


DURATION_BUCKETS = (
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
"""Seconds, as the semantic conventions advise."""

_SCHEMES = frozenset({"http", "https"})
_VERSIONS = {f"HTTP/{version}": version for version in ("1.0", "1.1", "2", "3")}
_VERSIONS |= {"HTTP/2.0": "2", "HTTP/3.0": "3"}

Started = dict[str, str]
"""What a request was counted under; to be handed back when it is over."""


class ServerMetrics:
    """``http.server.*`` and ``bodytrace.*``.

    :param provider: None is the global one, whoever sets it, and whenever: until then nothing is
        recorded, and next to nothing is spent on it.
    """

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
        self._active = _active.get_or_make(_key(provider), ActiveRequests)
        meter.create_observable_up_down_counter(
            "http.server.active_requests",
            [self._active.observe],
            unit="{request}",
            description="Number of active HTTP server requests.",
        )
        self._body_size = meter.create_histogram(
            "http.server.request.body.size",
            unit="By",
            description="Size of HTTP server request bodies.",
        )
        self._bodies = meter.create_counter(
            "bodytrace.body.events",
            unit="{body}",
            description="Bodies spilled to disk, not to be spilled, rejected, or passed on unread.",
        )
        self._unread = meter.create_counter(
            "bodytrace.ids.unread",
            unit="{request}",
            description="Requests whose body was not searched for business ids.",
        )
        self._meter = meter
        self._provider = provider
        self.is_recording: Callable[[], bool] = partial(is_recording, self._duration)
        """Whether anybody takes what is recorded; a global provider may come at any time."""

    def started(self, method: str, scheme: str) -> Started:
        """A request came in; only worth saying if somebody is `is_recording`.

        :param method: one of `spans.METHODS` or ``_OTHER``.
        :param scheme: as the server, or a proxy it trusts, says.
        """
        counted = {
            "http.request.method": method,
            "url.scheme": scheme if scheme in _SCHEMES else "_OTHER",
        }
        self._active.began(counted)
        return counted

    def finished(  # noqa: PLR0913 - what a measurement is made of
        self,
        started: Started,
        *,
        seconds: float,
        status: int | None,
        route: str | None,
        protocol: str,
        error_type: str | None,
        body_size: int | None,
        context: Context | None,
    ) -> None:
        """The request counted as `started` is over.

        :param status: None if the application raised instead of answering.
        :param protocol: ``SERVER_PROTOCOL``.
        :param body_size: bytes; None where nobody read to the end of a body of unknown length.
        :param context: lets exemplars point at the request's span.
        """
        self._active.ended(started)
        attributes: dict[str, Any] = started.copy()
        if status is not None:
            attributes["http.response.status_code"] = status
        if route is not None:
            attributes["http.route"] = route
        if error_type is not None:
            attributes["error.type"] = error_type
        version = _VERSIONS.get(protocol)
        if version is not None:
            attributes["network.protocol.version"] = version
        self._duration.record(seconds, attributes, context)
        if body_size:
            self._body_size.record(body_size, attributes, context)

    def body_event(self, event: str) -> None:
        """A body was ``spilled``, ``unspillable``, ``rejected`` or ``passed``."""
        self._bodies.add(1, {"event": event})

    def ids_unread(self, reason: str) -> None:
        """A body was not searched for ids: one of the reasons of `ids.sources`."""
        self._unread.add(1, {"reason": reason})

    def observe(self, pool: BufferPool) -> None:
        """Report `pool`'s figures, with those of its provider's other pools, at each collection."""
        pools = _pools.get_or_make(_key(self._provider), weakref.WeakSet)
        pools.add(pool)
        _report(self._meter, pools)


class ActiveRequests:
    """The requests that are being answered, counted when somebody collects.

    Two calls of one of the SDK's counters take a request longer than finding its ids.
    """

    def __init__(self) -> None:
        # No lock, which another thread might hold when this process forks: each use of these is
        # one step.
        self._requests: dict[int, Started] = {}
        self._seen: dict[tuple[str, ...], Started] = {}

    def began(self, request: Started) -> None:
        """One more, until this very object comes back."""
        self._requests[id(request)] = request
        self._seen[tuple(request.values())] = request

    def ended(self, request: Started) -> None:
        """One less."""
        del self._requests[id(request)]

    def observe(self, _options: CallbackOptions) -> Iterable[Observation]:
        """How many there are; none is a figure too, where there was one before."""
        counts = Counter(tuple(request.values()) for request in list(self._requests.values()))
        return [Observation(counts[key], request) for key, request in list(self._seen.items())]


# A meter keeps the first callbacks it is given for an observable instrument and no later ones, so
# the applications of one process share what they report.
_GLOBAL = NoOpMeterProvider()
_active: IdentityRegistry[MeterProvider, ActiveRequests] = IdentityRegistry()
_pools: IdentityRegistry[MeterProvider, weakref.WeakSet[BufferPool]] = IdentityRegistry()


def _key(provider: MeterProvider | None) -> MeterProvider:
    """What stands for a provider in the registries: the global one may be given, or be left out."""
    return _GLOBAL if provider is None or provider is metrics.get_meter_provider() else provider


def _report(meter: Meter, pools: weakref.WeakSet[BufferPool]) -> None:
    def total(figure: str) -> Callable[[CallbackOptions], Iterable[Observation]]:
        return lambda _options: [Observation(sum(getattr(pool, figure) for pool in list(pools)))]

    meter.create_observable_counter(
        "bodytrace.pool.hits",
        [total("hits")],
        unit="{buffer}",
        description="Buffers for bodies that the pool had.",
    )
    meter.create_observable_counter(
        "bodytrace.pool.misses",
        [total("misses")],
        unit="{buffer}",
        description="Buffers for bodies that had to be allocated.",
    )
    meter.create_observable_up_down_counter(
        "bodytrace.pool.kept",
        [total("kept_bytes")],
        unit="By",
        description="Bytes of buffers kept for reuse.",
    )
