"""Whether a request is sampled, found out before anything is spent on its span."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer

from .propagation import BusinessIdGenerator, DrawnTraceId

_LIMIT = TraceIdRatioBased.TRACE_ID_LIMIT
_KEEP = _LIMIT + 1
_FLAGS = (TraceFlags(TraceFlags.DEFAULT), TraceFlags(TraceFlags.RANDOM_TRACE_ID))


def foresee(tracer: Tracer) -> Foresight | None:
    """What `tracer` will decide, if its samplers are the SDK's own; None if that cannot be told.

    Others may look at attributes or count what they see, and have to be asked.
    """
    if type(tracer) is not SdkTracer:
        return None
    sampler: Any = tracer.sampler
    try:
        # Where the SDK counts the spans it starts, it has to see them all.
        if type(tracer._tracer_metrics).__name__ != "NoOpTracerMetrics":
            return None
        if type(sampler) is ParentBased:
            bounds = [
                _bound(sampler._root),
                _bound(sampler._remote_parent_not_sampled),
                _bound(sampler._remote_parent_sampled),
                _bound(sampler._local_parent_not_sampled),
                _bound(sampler._local_parent_sampled),
            ]
        else:
            bounds = [_bound(sampler)] * 5
    except AttributeError:  # another SDK than this was written for: ask it
        return None
    return Foresight(tracer, *bounds) if min(bounds) < _KEEP else None


def _bound(sampler: Sampler) -> int:
    """Traces whose id's lower half is below this are kept; any is where the sampler is unknown."""
    if type(sampler) is StaticSampler and sampler._decision is Decision.DROP:
        return 0
    if type(sampler) is TraceIdRatioBased:
        return sampler.bound
    return _KEEP


class Foresight:
    """Makes the spans of requests that the SDK would drop, and leaves all others to it.

    They are equal to what the SDK makes; an unsampled request takes half the instructions so.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - one bound for each way to be decided
        self,
        tracer: SdkTracer,
        root: int,
        remote_unsampled: int,
        remote_sampled: int,
        local_unsampled: int,
        local_sampled: int,
    ) -> None:
        generator = tracer.id_generator
        self._tracer = tracer
        self._remote = (remote_unsampled, remote_sampled)
        self._local = (local_unsampled, local_sampled)
        self._draws = root < _KEEP and type(generator) is BusinessIdGenerator
        # Another generator cannot be told the id that was drawn here, if the trace is to be kept.
        self._root = root if self._draws or root == 0 else _KEEP
        self._generator = generator
        self.refuses = "".join(
            digit for digit in "0123456789abcdef" if self._remote[int(digit, 16) & 1] < _KEEP
        )
        """Last digits of a traceparent below which something may be dropped."""

    def dropped_below(self, trace_id: int, flags: int) -> NonRecordingSpan | None:
        """As `dropped`, below a remote parent without a tracestate."""
        if (
            trace_id & _LIMIT < self._remote[flags & 1]
            or not self._tracer._tracer_config.is_enabled
        ):
            return None
        random = flags & TraceFlags.RANDOM_TRACE_ID != 0
        span_id = self._generator.generate_span_id()
        return NonRecordingSpan(SpanContext(trace_id, span_id, False, _FLAGS[random]))

    def draw(self) -> int:
        """The id for a trace that starts here, if its sampling depends on that; else 0."""
        return DrawnTraceId(self._generator.generate_trace_id()) if self._draws else 0

    def dropped(self, parent: SpanContext | None, trace_id: int) -> NonRecordingSpan | None:
        """The span of a request that is not sampled; None where the SDK has to make it.

        :param trace_id: chosen or drawn for a trace without a parent; 0 for none.
        """
        state = None
        if parent is None:
            bound = self._root
            if bound == _KEEP:
                return None
            random = type(trace_id) is DrawnTraceId
            if not trace_id:
                trace_id = self._generator.generate_trace_id()
                random = self._generator.is_trace_id_random()
        else:
            # A tuple, so that its properties need not be called one by one.
            trace_id, _, is_remote, flags, state, _ = parent
            random = flags & TraceFlags.RANDOM_TRACE_ID != 0
            bound = (self._remote if is_remote else self._local)[flags & 1]
            if bound == _KEEP:
                return None
        if trace_id & _LIMIT < bound or not self._tracer._tracer_config.is_enabled:
            return None
        return NonRecordingSpan(
            SpanContext(
                int(trace_id), self._generator.generate_span_id(), False, _FLAGS[random], state
            )
        )
