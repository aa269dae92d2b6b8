"""OpenTelemetry's metrics API over prometheus_client, whose figures gunicorn's workers share.

OpenTelemetry's own reader for Prometheus knows one process: each scrape would see one worker.
Here each measurement goes to a file of its process at once, if `PROMETHEUS_MULTIPROC_DIR` names a
folder, and a scrape adds the files up, whichever worker answers it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import prometheus_client as prometheus
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions

from example_app.metrics.labels import BUCKETS, BYTES_BUCKETS, LABELS

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.metrics import CallbackT, Observation
    from opentelemetry.util.types import Attributes
    from prometheus_client import CollectorRegistry

    Metric = prometheus.Counter | prometheus.Gauge | prometheus.Histogram
    Callbacks = Sequence[CallbackT] | None
    Ask = Callable[[CallbackOptions], Iterable[Observation]]

_UNITS = {"s": "_seconds", "By": "_bytes"}


def prometheus_name(name: str, unit: str) -> str:
    """Return what Prometheus calls a metric, without ``_total``."""
    return name.replace(".", "_") + _UNITS.get(unit, "")


class PrometheusMeterProvider(metrics.MeterProvider):
    """Makes instruments whose figures are in `registry`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._meter = _Meter(registry)

    def get_meter(
        self,
        name: str,
        version: str | None = None,
        schema_url: str | None = None,
        attributes: Attributes = None,
    ) -> metrics.Meter:
        """Return the one meter there is: Prometheus knows metrics by their name alone."""
        del name, version, schema_url, attributes
        return self._meter

    def observe(self) -> None:
        """Ask what has to be asked: the observable instruments."""
        self._meter.observe()


class _Family:
    """A metric by the attributes it is recorded with; made with the first of them."""

    def __init__(self, name: str, make: Callable[[Sequence[str]], Metric]) -> None:
        self._make = make
        self._keys = LABELS.get(name)
        self._lock = threading.Lock()
        self._metric: Any = None

    def of(self, attributes: Attributes) -> Any:
        given: Mapping[str, Any] = attributes or {}
        if self._metric is None:
            with self._lock:
                if self._metric is None:
                    keys = self._keys = tuple(given) if self._keys is None else self._keys
                    self._metric = self._make([key.replace(".", "_") for key in keys])
        if not self._keys:
            return self._metric
        return self._metric.labels(*[str(given.get(key, "")) for key in self._keys])


class _Adding:
    def __init__(self, family: _Family) -> None:
        self._family = family

    def add(
        self, amount: float, attributes: Attributes = None, context: Context | None = None
    ) -> None:
        del context
        self._family.of(attributes).inc(amount)


class _Counter(_Adding, metrics.Counter):
    pass


class _UpDownCounter(_Adding, metrics.UpDownCounter):
    pass


class _Histogram(metrics.Histogram):
    def __init__(self, family: _Family) -> None:
        self._family = family

    def record(
        self, amount: float, attributes: Attributes = None, context: Context | None = None
    ) -> None:
        del context
        self._family.of(attributes).observe(amount)


class _Observed:
    """What an observable instrument is asked for, and where the answers go."""

    def __init__(self, family: _Family, callbacks: Callbacks, *, is_sum: bool) -> None:
        self._family = family
        self._asked = [_asked(callback) for callback in callbacks or ()]
        self._is_sum = is_sum
        self._counted: dict[frozenset[tuple[str, Any]], float] = {}

    def observe(self) -> None:
        for ask in self._asked:
            for observation in ask(CallbackOptions()):
                metric = self._family.of(observation.attributes)
                if not self._is_sum:
                    metric.set(observation.value)
                    continue
                # Counted from the start of the process, as its siblings count on in their own way.
                key = frozenset((observation.attributes or {}).items())
                metric.inc(observation.value - self._counted.get(key, 0))
                self._counted[key] = observation.value


def _asked(callback: CallbackT) -> Ask:
    """Return a function for a callback, which may also be a generator that is sent options."""
    if isinstance(callback, Generator):
        next(callback)
        return callback.send
    return callback


class _Meter(metrics.Meter):
    """The same name is the same instrument, whoever asks for it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__("prometheus")
        self._registry = registry
        self._lock = threading.Lock()
        self._observing = threading.Lock()
        self._families: dict[str, _Family] = {}
        self._observed: list[_Observed] = []

    def observe(self) -> None:
        # One at a time, as what was counted before is looked at and then changed.
        with self._observing:
            for observed in self._observed.copy():
                observed.observe()

    def create_counter(self, name: str, unit: str = "", description: str = "") -> metrics.Counter:
        return _Counter(self._counted(name, unit, description))

    def create_up_down_counter(
        self, name: str, unit: str = "", description: str = ""
    ) -> metrics.UpDownCounter:
        return _UpDownCounter(self._gauged(name, unit, description))

    def create_histogram(
        self,
        name: str,
        unit: str = "",
        description: str = "",
        *,
        explicit_bucket_boundaries_advisory: Sequence[float] | None = None,
    ) -> metrics.Histogram:
        # The advised ones have none at the article's 320 ms.
        del explicit_bucket_boundaries_advisory
        buckets = BYTES_BUCKETS if unit == "By" else BUCKETS
        full = prometheus_name(name, unit)

        def make(labels: Sequence[str]) -> prometheus.Histogram:
            return prometheus.Histogram(
                full, description or full, labels, buckets=buckets, registry=self._registry
            )

        return _Histogram(self._family(name, make))

    def create_observable_counter(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableCounter:
        family = self._counted(name, unit, description)
        self._observed.append(_Observed(family, callbacks, is_sum=True))
        return metrics.NoOpObservableCounter(name, callbacks, unit, description)

    def create_observable_up_down_counter(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableUpDownCounter:
        family = self._gauged(name, unit, description)
        self._observed.append(_Observed(family, callbacks, is_sum=False))
        return metrics.NoOpObservableUpDownCounter(name, callbacks, unit, description)

    def create_observable_gauge(
        self, name: str, callbacks: Callbacks = None, unit: str = "", description: str = ""
    ) -> metrics.ObservableGauge:
        family = self._gauged(name, unit, description, mode="liveall")
        self._observed.append(_Observed(family, callbacks, is_sum=False))
        return metrics.NoOpObservableGauge(name, callbacks, unit, description)

    def _counted(self, name: str, unit: str, description: str) -> _Family:
        full = prometheus_name(name, unit)

        def make(labels: Sequence[str]) -> prometheus.Counter:
            return prometheus.Counter(full, description or full, labels, registry=self._registry)

        return self._family(name, make)

    def _gauged(self, name: str, unit: str, description: str, mode: Any = "livesum") -> _Family:
        """Return a gauge: of several processes the sum, or each one's own with `mode` liveall."""
        full = prometheus_name(name, unit)

        def make(labels: Sequence[str]) -> prometheus.Gauge:
            return prometheus.Gauge(
                full, description or full, labels, registry=self._registry, multiprocess_mode=mode
            )

        return self._family(name, make)

    def _family(self, name: str, make: Callable[[Sequence[str]], Metric]) -> _Family:
        with self._lock:
            return self._families.setdefault(name, _Family(name, make))
