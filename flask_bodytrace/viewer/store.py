"""What was seen last, within bounds: traces by number, items and bytes; log records; metrics."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from threading import Condition, Lock
from time import monotonic

from msgspec import Struct

from .index import Index, index_of
from .log_store import Entry, LogStore
from .metric_store import MetricStore
from .metrics import Measured, Series
from .model import LogRecord, Span, weigh, weigh_resource
from .summary import Digest, Summary, digest_of


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is kept.

    :param traces: number of traces.
    :param items: spans and log records of all traces.
    :param trace_items: spans and log records of one trace; more are counted, not kept.
    :param bytes: of memory, as `weigh` estimates it.
    :param index: bytes of memory besides, for what has been searched; what does not fit is made
        anew for each search.
    :param logs: bytes of memory besides, for the last log records, of traces or of none.
    :param metrics: bytes of memory besides, for metrics.
    :param series: number of series of metrics.
    :param points: of one series.
    """

    traces: int = 5_000
    items: int = 50_000
    trace_items: int = 20_000
    bytes: int = 64 << 20
    index: int = 32 << 20
    logs: int = 16 << 20
    metrics: int = 16 << 20
    series: int = 1_000
    points: int = 240


ALONE = Limits(
    traces=20_000,
    items=200_000,
    bytes=256 << 20,
    index=96 << 20,
    logs=64 << 20,
    metrics=64 << 20,
    series=5_000,
)
"""For a process that does nothing else."""


class Trace(Struct, frozen=True):
    """One trace as it was at one moment."""

    trace_id: str
    spans: Sequence[Span]
    logs: Sequence[LogRecord]
    summary: Summary
    version: int


class Saved(Struct, frozen=True):
    """One trace as another process takes it over."""

    version: int
    left_out: int
    spans: Sequence[Span]
    logs: Sequence[LogRecord]


class _Kept:
    __slots__ = (
        "changed",
        "digest",
        "index",
        "left_out",
        "logs",
        "resources",
        "size",
        "spans",
        "summary",
        "trace_id",
        "version",
    )

    def __init__(self, trace_id: str) -> None:
        self.trace_id = trace_id
        self.spans: dict[str, Span] = {}
        self.logs: list[LogRecord] = []
        self.resources: set[int] = set()
        """The resources that are weighed already: many spans share one."""
        self.size = 0
        self.left_out = 0
        self.version = 0
        self.changed = 0.0
        self.digest: Digest | None = None
        """None where a span was replaced, or none came: then it is made of all."""
        self.summary: Summary | None = None
        self.index: Index | None = None

    def summarize(self, business_ids: frozenset[str]) -> Summary:
        if self.summary is None:
            if self.digest is None:
                self.digest = digest_of(self.spans.values(), business_ids)
            self.summary = self.digest.summary(self.trace_id, self.spans, self.left_out)
        return self.summary


class TraceStore:
    """Thread-safe. Over a bound, the trace that came first goes, whole.

    :param business_ids: attributes that are business ids for sure; others are told by their names.
    """

    def __init__(self, limits: Limits | None = None, *, business_ids: Iterable[str] = ()) -> None:
        self._limits = limits or Limits()
        self._business_ids = frozenset(business_ids)
        self._reset_lock()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset_lock)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())
        self._traces: dict[str, _Kept] = {}
        self._logs = LogStore(self._limits.logs)
        self._metrics = MetricStore(
            series=self._limits.series, points=self._limits.points, size=self._limits.metrics
        )
        self._items = 0
        self._size = 0
        self._indexed = 0
        self._version = 0

    def _reset_lock(self) -> None:
        # A forked child gets the lock as it was, perhaps held by a thread that it does not get.
        self._lock = Lock()
        self._changed = Condition(self._lock)

    @property
    def version(self) -> int:
        """Grows whenever something changed."""
        return self._version

    def version_of(self, trace_id: str) -> int:
        """Grows whenever one trace changed; 0 for one that is not here."""
        kept = self._traces.get(trace_id)
        return 0 if kept is None else kept.version

    def wait(self, version: int, seconds: float) -> None:
        """Until something changed after `version`, but no longer than this."""
        with self._lock:
            self._changed.wait_for(lambda: self._version > version, seconds)

    @property
    def size(self) -> int:
        """Bytes held, as `weigh` estimates them."""
        return self._size

    def __len__(self) -> int:
        """The number of spans and log records."""
        return self._items

    @property
    def trace_count(self) -> int:
        """The number of traces."""
        return len(self._traces)

    def add(self, spans: Iterable[Span], logs: Iterable[LogRecord] = ()) -> None:
        """Keep spans and log records; a span that came before is replaced, as exporters retry."""
        logs = list(logs)
        with self._lock:
            self._version += 1
            now = monotonic()
            self._logs_changed(*self._logs.add(logs))
            items: Iterable[Span | LogRecord] = chain(spans, (log for log in logs if log.trace_id))
            for item in items:
                trace = self._traces.get(item.trace_id)
                if trace is None:
                    trace = self._traces[item.trace_id] = _Kept(item.trace_id)
                trace.version = self._version
                trace.changed = now
                trace.summary = None
                self._forget_index(trace)
                self._add(trace, item)
            self._changed.notify_all()

    def add_metrics(self, measured: Iterable[Measured]) -> None:
        """Keep points of metrics."""
        with self._lock:
            self._version += 1
            self._metrics.add(measured)
            self._changed.notify_all()

    def logs(self) -> list[Entry]:
        """The last log records, of traces or of none, as they came in."""
        with self._lock:
            return self._logs.entries()

    def series(self) -> list[Series]:
        """The series of metrics, each with its last points."""
        with self._lock:
            return self._metrics.series()

    def _add(self, trace: _Kept, item: Span | LogRecord) -> None:
        size = weigh(item)
        if isinstance(item, Span):
            if id(item.resource) not in trace.resources:
                # Weighed with the first of its spans that is kept, and as long as the trace is.
                size += weigh_resource(item)
            former = trace.spans.pop(item.span_id, None)
            if former is not None:
                self._count(trace, -1, -weigh(former))
                trace.digest = None
        limits = self._limits
        room = min(limits.trace_items, limits.items)
        if len(trace.spans) + len(trace.logs) >= room or trace.size + size > limits.bytes:
            trace.left_out += 1
        else:
            if isinstance(item, Span):
                if not trace.spans:
                    trace.digest = Digest(self._business_ids)
                trace.spans[item.span_id] = item
                if trace.digest is not None:
                    trace.digest.add(item)
                trace.resources.add(id(item.resource))
            else:
                trace.logs.append(item)
            self._count(trace, 1, size)
            self._kept(item)
        self._evict(trace)

    def _count(self, trace: _Kept, items: int, size: int) -> None:
        trace.size += size
        self._items += items
        self._size += size

    def _evict(self, keep: _Kept) -> None:
        limits = self._limits
        while (
            self._items > limits.items
            or self._size > limits.bytes
            or len(self._traces) > limits.traces
        ):
            oldest = next(trace for trace in self._traces.values() if trace is not keep)
            del self._traces[oldest.trace_id]
            self._items -= len(oldest.spans) + len(oldest.logs)
            self._size -= oldest.size
            self._forget_index(oldest)
            self._gone(oldest.trace_id)

    def _kept(self, item: Span | LogRecord) -> None:
        """Called with the lock held, for each item of a trace that there was room for."""

    def _gone(self, trace_id: str) -> None:
        """Called with the lock held, for each trace that had to go."""

    def _logs_changed(self, kept: Sequence[LogRecord], gone: Sequence[LogRecord]) -> None:
        """Called with the lock held: what the page of log records got, and what went from it."""

    def _forget_index(self, trace: _Kept) -> None:
        if trace.index is not None:
            self._indexed -= trace.index.size
            trace.index = None

    def index(self, trace_id: str) -> Index | None:
        """What can be searched of a trace; None if it is not, or no longer, here."""
        with self._lock:
            kept = self._traces.get(trace_id)
            if kept is None:
                return None
            if kept.index is not None:
                return kept.index
            spans = list(kept.spans.values())
            logs = list(kept.logs)
            version = kept.version
        # Made without the lock: a large trace takes a while, and spans go on coming in.
        made = index_of(spans, logs)
        with self._lock:
            is_news = self._traces.get(trace_id) is kept and kept.index is None
            fits = self._indexed + made.size <= self._limits.index
            if is_news and fits and kept.version == version:
                kept.index = made
                self._indexed += made.size
        return made

    def trace(self, trace_id: str) -> Trace | None:
        """One trace, its spans by start time; None if it is not, or no longer, here."""
        with self._lock:
            kept = self._traces.get(trace_id)
            if kept is None or not kept.spans:
                return None
            spans = list(kept.spans.values())
            logs = list(kept.logs)
            summary = kept.summarize(self._business_ids)
            version = kept.version
        spans.sort(key=lambda span: span.start)
        logs.sort(key=lambda log: log.time)
        return Trace(trace_id, spans, logs, summary, version)

    def summary(self, trace_id: str) -> Summary | None:
        """What one trace is about; None if it is not, or no longer, here."""
        with self._lock:
            kept = self._traces.get(trace_id)
            return kept.summarize(self._business_ids) if kept is not None and kept.spans else None

    def summaries(self, after: int = 0) -> list[Summary]:
        """Of every trace that changed after `after`, a `version`; the latest start comes first."""
        with self._lock:
            found = [
                trace.summarize(self._business_ids)
                for trace in self._traces.values()
                if trace.version > after and trace.spans
            ]
        found.sort(key=lambda summary: summary.start, reverse=True)
        return found

    def linking_to(self, trace_id: str) -> list[Summary]:
        """The traces of which a span links to this one."""
        with self._lock:
            return [
                summary
                for trace in self._traces.values()
                if trace.spans
                and trace_id in (summary := trace.summarize(self._business_ids)).links
            ]

    def quiet(self, trace_id: str) -> float:
        """Seconds since the trace last changed; 0 for a trace that is not here."""
        with self._lock:
            kept = self._traces.get(trace_id)
            return 0.0 if kept is None else monotonic() - kept.changed

    def spans(self) -> list[Span]:
        """Every span of every trace."""
        with self._lock:
            return [span for trace in self._traces.values() for span in trace.spans.values()]

    def saved(self) -> tuple[int, list[Saved]]:
        """The version, and every trace, for `restore` of another process's store."""
        with self._lock:
            return self._version, [
                Saved(trace.version, trace.left_out, list(trace.spans.values()), list(trace.logs))
                for trace in self._traces.values()
            ]

    def restore(self, version: int, traces: Iterable[Saved]) -> None:
        """Take over what another store had, versions included: whoever follows sees no change."""
        with self._lock:
            self._version = max(self._version, version)
            now = monotonic()
            for saved in traces:
                items: Iterable[Span | LogRecord] = chain(saved.spans, saved.logs)
                for item in items:
                    trace = self._traces.get(item.trace_id)
                    if trace is None:
                        trace = self._traces[item.trace_id] = _Kept(item.trace_id)
                        trace.left_out = saved.left_out
                    trace.version = saved.version
                    trace.changed = now
                    self._add(trace, item)
