"""Whether a request is sampled, found out before anything is spent on its span."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.trace import Tracer
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import (
    Decision,
    ParentBased,
    Sampler,
    StaticSampler,
    TraceIdRatioBased,
)
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, TraceState

from .id_generator import BusinessIdGenerator

if TYPE_CHECKING:
    from flask_bodytrace.trace.headers import Names


_START_SPAN = Tracer.start_span
_LIMIT = TraceIdRatioBased.TRACE_ID_LIMIT
_EVERY = _LIMIT + 1
_UNKNOWN = -1
_RANDOM = TraceFlags.RANDOM_TRACE_ID


def foresee(tracer: object) -> Foresight | None:
    """What `tracer` will decide, if its samplers are the SDK's own; None if that cannot be told.

    Others may look at attributes or count what they see, and have to be asked; and so has a tracer
    that somebody patched, to see the spans it starts.
    """
    if type(tracer) is not Tracer or Tracer.start_span is not _START_SPAN:
        return None
    sampler: Any = tracer.sampler
    try:
        # Where the SDK counts the spans it starts, it has to see them all.
        if type(tracer._tracer_metrics).__name__ != "NoOpTracerMetrics":
            return None
        samplers = [sampler] * 5
        if type(sampler) is ParentBased:
            samplers = [
                sampler._root,
                sampler._remote_parent_not_sampled,
                sampler._remote_parent_sampled,
                sampler._local_parent_not_sampled,
                sampler._local_parent_sampled,
            ]
        root, *others = map(_bound, samplers)
        tracer._tracer_config.is_enabled  # noqa: B018 - whether there is such a thing
    except AttributeError:  # another SDK than this was written for: ask it
        return None
    return Foresight(tracer, root, (others[0], others[1]), (others[2], others[3]))


def _bound(sampler: Sampler) -> int:
    """Traces whose id's lower half is below this are sampled; negative where nobody can tell."""
    if type(sampler) is StaticSampler:
        if sampler._decision is Decision.DROP:
            return 0
        if sampler._decision is Decision.RECORD_AND_SAMPLE:
            return _EVERY
    if type(sampler) is TraceIdRatioBased:
        return sampler.bound
    return _UNKNOWN


class Foresight:
    """Decides as `tracer` will.

    :param root: the bound for traces that start here.
    :param remote: those below a remote parent, not sampled and sampled.
    :param local: those below a local one.
    """

    def __init__(
        self, tracer: Tracer, root: int, remote: tuple[int, int], local: tuple[int, int]
    ) -> None:
        self.tracer = tracer
        self._root = root
        self.knows_roots = root >= 0
        """Whether it can be told which traces that start here are sampled."""
        self._remote = remote
        self._local = local

    def below(self, trace_id: str, flags: int) -> bool | None:
        """As `samples`, below a remote parent; of its hex digits only those needed are parsed.

        :param flags: the parent's, W3C trace flags.
        """
        bound = self._remote[flags & 1]
        if bound < 0 or not self.tracer._tracer_config.is_enabled:
            return None
        return bound > 0 and (bound == _EVERY or int(trace_id[16:], 16) < bound)

    def trace(self, parent: SpanContext | None, preset: int) -> tuple[int, int, TraceState | None]:
        """The trace that a span below `parent` belongs to: its id, its random flag, its state.

        :param preset: the id chosen for a trace that starts here, 0 for one of the generator's.
        """
        if parent is not None:
            return parent.trace_id, parent.trace_flags & _RANDOM, parent.trace_state
        if preset:
            return preset, 0, None
        generator = self.tracer.id_generator
        if type(generator) is BusinessIdGenerator:
            # It has none to give but a random one: not asked twice whether somebody chose it.
            return RandomIdGenerator.generate_trace_id(generator), _RANDOM, None
        trace_id = generator.generate_trace_id()
        return trace_id, _RANDOM if generator.is_trace_id_random() else 0, None

    def samples(self, parent: SpanContext | None, trace_id: int) -> bool | None:
        """Whether a span of this trace is sampled; None where the SDK has to be asked."""
        if parent is None:
            bound = self._root
        else:
            bound = (self._remote if parent.is_remote else self._local)[parent.trace_flags & 1]
        if bound < 0 or not self.tracer._tracer_config.is_enabled:
            return None
        return trace_id & _LIMIT < bound


class UnsampledSpan(NonRecordingSpan):
    """What the SDK makes for a request that is not sampled; its context is made when asked for.

    :param names: with its own trace flags, not the parent's.
    """

    def __init__(self, names: Names, state: TraceState | None = None) -> None:
        self._names = names
        self._state = state

    @cached_property
    def _context(self) -> SpanContext:  # type: ignore[override]
        trace_id, span_id, _, flags = self._names
        return SpanContext(
            int(trace_id, 16),
            int(span_id, 16),
            is_remote=False,
            trace_flags=TraceFlags(flags),
            trace_state=self._state,
        )
