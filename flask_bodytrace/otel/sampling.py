"""What a tracer's sampler will decide, predicted before anything is spent on a span.

Only for samplers of the SDK's own that look at nothing but the trace id and the parent's flags. A
prediction is trusted after it was compared with the sampler's own answers (`predict`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_ON,
    Decision,
    ParentBased,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from .id_generator import BusinessIdGenerator

SpanIds = tuple[str, str, str | None, int]
"""Trace id, span id and parent span id in lower-case hex, and the W3C trace flags."""

_LOWER_HALF = (1 << 64) - 1
ALL = 1 << 64
"""The bound below which every trace is sampled."""
_UNPREDICTABLE = -1
RANDOM = int(TraceFlags.RANDOM_TRACE_ID)
"""The random flag (W3C Trace Context Level 2)."""
_SAMPLED = int(TraceFlags.SAMPLED)
_DELEGATES = (
    "_root",
    "_remote_parent_not_sampled",
    "_remote_parent_sampled",
    "_local_parent_not_sampled",
    "_local_parent_sampled",
)
# Subclasses count as the SDK's own as long as they decide by these.
_PARENT_BASED, _RATIO = ParentBased.should_sample, TraceIdRatioBased.should_sample
_STATIC = type(ALWAYS_ON).should_sample


def predict(sampler: Sampler) -> Prediction | None:
    """What `sampler` will decide; None if it is unpredictable.

    Samplers that are not the SDK's may look at attributes or count what they see. One that keeps
    spans of its own (`keeping`) says by its `decides_as` which sampler decides.
    """
    decider: Any = getattr(sampler, "decides_as", sampler)
    delegates = [decider] * 5
    if _decides_by(decider, _PARENT_BASED):
        delegates = [getattr(decider, name, None) for name in _DELEGATES]
    prediction = Prediction(*map(_bound, delegates))
    try:
        return prediction if _agrees(prediction, sampler) else None
    except Exception:  # noqa: BLE001 - a sampler that fails here has to fail where it is asked
        return None


def _decides_by(sampler: object, should_sample: object) -> bool:
    return getattr(
        type(sampler), "should_sample", None
    ) is should_sample and "should_sample" not in vars(sampler)


def _bound(sampler: object) -> int:
    """Traces whose id's lower half is below this are sampled; negative if unpredictable."""
    if _decides_by(sampler, _STATIC):
        decision = getattr(sampler, "_decision", None)
        if decision is Decision.DROP:
            return 0
        return ALL if decision is Decision.RECORD_AND_SAMPLE else _UNPREDICTABLE
    if _decides_by(sampler, _RATIO):
        return getattr(sampler, "bound", _UNPREDICTABLE)
    return _UNPREDICTABLE


class Prediction:
    """A sampler's decisions as bounds: a trace is sampled if its id's lower half is below.

    :param root: the bound for traces that start here.
    :param others: those below a parent: remote and not sampled, remote and sampled, local and not
        sampled, local and sampled.
    """

    __slots__ = ("_local", "_root", "remote")

    def __init__(self, root: int, *others: int) -> None:
        self._root = root
        self.remote = others[:2]
        """The bounds below a remote parent that is not sampled, and below one that is."""
        self._local = others[2:]

    @property
    def knows_roots(self) -> bool:
        """Whether it is predictable which traces that start here are sampled."""
        return self._root >= 0

    def bounds(self) -> tuple[int, ...]:
        """Every bound there is."""
        return (self._root, *self.remote, *self._local)

    def samples(self, parent: SpanContext | None, trace_id: int) -> bool | None:
        """Whether a span of this trace is sampled; None if unpredictable."""
        if parent is None:
            bound = self._root
        else:
            bound = (self.remote if parent.is_remote else self._local)[parent.trace_flags & 1]
        return None if bound < 0 else trace_id & _LOWER_HALF < bound


def _agrees(prediction: Prediction, sampler: Sampler) -> bool:
    """Whether the sampler answers as predicted, at the edges of every bound."""
    bounds = set(prediction.bounds())
    if max(bounds) < 0:
        return False
    edges = {edge for bound in bounds for edge in (bound - 1, bound, bound + 1)}
    numbers = {edge for edge in edges if 0 < edge < ALL} | {1, _LOWER_HALF}
    for number in (high << 64 | low for low in numbers for high in (0, 1, _LOWER_HALF)):
        for parent in (None, *_parents(number)):
            expected = prediction.samples(parent, number)
            if expected is None:
                continue
            context = Context()
            if parent is not None:
                context = set_span_in_context(NonRecordingSpan(parent), context)
            result = sampler.should_sample(context, number, "GET", SpanKind.SERVER, {"a": "b"}, ())
            if (
                result.decision is not (Decision.RECORD_AND_SAMPLE if expected else Decision.DROP)
                or dict(result.attributes or {}) != ({"a": "b"} if expected else {})
                or result.trace_state != (None if parent is None else parent.trace_state)
            ):
                return False
    return True


def _parents(trace_id: int) -> Iterator[SpanContext]:
    state = TraceState([("vendor", "value")])
    for is_remote in (True, False):
        for flags in (0, _SAMPLED):
            yield SpanContext(trace_id, 1, is_remote, TraceFlags(flags), state)


def trace_for(
    generator: Any, parent: SpanContext | None, preset: int
) -> tuple[int, int, TraceState | None]:
    """The trace that a span below `parent` belongs to: its id, its random flag, its state.

    :param generator: the tracer's id generator.
    :param preset: the id chosen for a trace that starts here, 0 for one of the generator's.
    """
    if parent is not None:
        return parent.trace_id, parent.trace_flags & RANDOM, parent.trace_state
    if preset:
        return preset, 0, None
    if type(generator) is BusinessIdGenerator:
        # Nothing is preset, so it would draw at random: no need to ask it twice.
        return RandomIdGenerator.generate_trace_id(generator), RANDOM, None
    trace_id = generator.generate_trace_id()
    is_random = getattr(generator, "is_trace_id_random", bool)
    return trace_id, RANDOM if is_random() else 0, None


class UnsampledSpan(NonRecordingSpan):
    """What the SDK makes for a request that is not sampled; its context is made when asked for.

    Made for most requests of a sampled service, so its fields are set without a constructor.
    """

    __init__ = object.__init__

    ids: SpanIds
    """With its own trace flags, not the parent's."""
    state: TraceState | None = None

    @cached_property
    def _lazy_context(self) -> SpanContext:
        trace_id, span_id, _, flags = self.ids
        return SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(flags),
            trace_state=self.state,
        )

    def get_span_context(self) -> SpanContext:
        """The span's context."""
        return self._lazy_context

    def __repr__(self) -> str:
        return f"UnsampledSpan({self.get_span_context()!r})"


def samples_root(sampler: Any, trace_id: int) -> bool:
    """Whether a sampler samples a trace of this id that starts here; True without a sampler."""
    if sampler is None:
        return True
    result = sampler.should_sample(Context(), trace_id, "HTTP", SpanKind.SERVER, {}, ())
    return bool(result.decision.is_sampled())
