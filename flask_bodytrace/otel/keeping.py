"""Spans of requests that are not sampled, held until it is known whether they are wanted.

`keeping` changes a provider: where its sampler would drop a span whose context says that its
request is held (`HELD_KEY`), the span is recorded, and a processor holds it when it ends. Its flags
stay as the sampler said, and so do those sent on to other services. Exporters take sampled spans
only; `Held.release` gives them copies that are marked as sampled.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from threading import Lock
from typing import Any

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.util.types import Attributes

from flask_bodytrace.exceptions import ConfigError

from .context import current
from .registry import IdentityRegistry

HELD_KEY = "flask_bodytrace.held"
"""Where a context holds the `Held` of the request."""

MOST_OF_ONE = 512
"""Spans held of one request, at most."""
MOST_OF_ALL = 16_384
"""Spans held of all requests, at most."""

_log = logging.getLogger("flask_bodytrace")


class KeepingSampler(Sampler):
    """Another sampler, but records what that drops below a request that is held.

    :param inner: the sampler that decides what is sampled.
    """

    def __init__(self, inner: Sampler) -> None:
        self.decides_as = inner

    def should_sample(  # noqa: PLR0913, PLR0917 - the SDK's signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        """As the SDK's samplers."""
        # As it is called itself: samplers written for older SDKs take no state, and get none.
        state = () if trace_state is None else (trace_state,)
        result = self.decides_as.should_sample(
            parent_context, trace_id, name, kind, attributes, links, *state
        )
        if result.decision is not Decision.DROP:
            return result
        context = current() if parent_context is None else parent_context
        held: Any = context.get(HELD_KEY)
        if held is None or held.is_over:
            return result
        return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)

    def get_description(self) -> str:
        """As the SDK's samplers."""
        return f"KeepingSampler{{{self.decides_as.get_description()}}}"


class Held:
    """What is held of one request.

    :param keeper: the processor that holds it.
    """

    __slots__ = ("_is_kept", "_keeper", "_open", "_spans")

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper
        self._spans: list[ReadableSpan] = []
        self._open: set[int] = set()
        self._is_kept: bool | None = None

    def release(self, *, is_kept: bool) -> None:
        """Decide, once: export what is held and what ends later, or let go of it."""
        keeper = self._keeper
        with keeper.lock:
            if self._is_kept is not None:
                return
            self._is_kept = is_kept
            spans, self._spans = self._spans, []
            keeper.count -= len(spans)
            if not is_kept:
                for span_id in self._open:
                    keeper.held_by.pop(span_id, None)
                self._open = set()
        if is_kept:
            keeper.export(spans)

    @property
    def is_over(self) -> bool:
        """Whether it was decided that nothing of the request is kept."""
        return self._is_kept is False

    def begun(self, span_id: int) -> None:
        """A span of the request has started; the keeper's lock is held."""
        if not self.is_over:
            self._open.add(span_id)
            self._keeper.held_by[span_id] = self

    def ended(self, span_id: int, span: ReadableSpan) -> bool:
        """A span of the request has ended; the keeper's lock is held.

        :returns: whether it is to be exported at once.
        """
        self._open.discard(span_id)
        keeper = self._keeper
        if self._is_kept is None:
            if len(self._spans) < MOST_OF_ONE and keeper.count < MOST_OF_ALL:
                self._spans.append(span)
                keeper.count += 1
            else:
                keeper.say_full()
        return bool(self._is_kept)


class Keeper(SpanProcessor):
    """Holds spans that were recorded without being sampled.

    :param processor: what the provider's ended spans go to; kept ones, too.
    """

    def __init__(self, processor: SpanProcessor) -> None:
        self._processor = processor
        self._has_said_full = False
        self.lock = Lock()
        self.count = 0
        """Spans held, of all requests."""
        self.held_by: dict[int, Held] = {}
        """The request of each span that is open, by the span's id."""

    ignores_fast_spans = True
    """`begin` names those itself: a call here would need a context made for it."""

    def held(self) -> Held:
        """For a request that begins."""
        return Held(self)

    def begun(self, span_id: int, held: Held) -> None:
        """A span of a held request has started."""
        with self.lock:
            if len(self.held_by) < MOST_OF_ALL:
                held.begun(span_id)
            else:
                self.say_full()

    def on_start(self, span: Any, parent_context: Context | None = None) -> None:
        """Note which request a span belongs to."""
        values: Mapping[str, Any] = current() if parent_context is None else parent_context
        held: Held | None = values.get(HELD_KEY)
        context = span.get_span_context()
        if held is None or context.trace_flags & TraceFlags.SAMPLED:
            return
        self.begun(context.span_id, held)

    def on_end(self, span: ReadableSpan) -> None:
        """Hold an ended span, or export it if its request is kept."""
        context = span.get_span_context()
        if context is None or context.trace_flags & TraceFlags.SAMPLED:
            return
        with self.lock:
            held = self.held_by.pop(context.span_id, None)
            is_kept = held is not None and held.ended(context.span_id, span)
        if is_kept:
            self.export([span])

    def export(self, spans: Sequence[ReadableSpan]) -> None:
        """Hand spans to the provider's processors, marked as sampled."""
        for span in spans:
            self._processor.on_end(_sampled(span))

    def say_full(self) -> None:
        """Say once that spans are dropped for want of room."""
        if not self._has_said_full:
            self._has_said_full = True
            _log.warning(
                "BODYTRACE_KEEP: more than %d spans of a request, or %d of all requests, are held: "
                "further ones are dropped unless they are sampled",
                MOST_OF_ONE,
                MOST_OF_ALL,
            )


_keepers: IdentityRegistry[Any, Keeper] = IdentityRegistry()


def keeping(provider: Any) -> Keeper:
    """Have `provider` hold spans; what it does for requests that are not held stays as it was.

    So do its tracers, where the SDK keeps them as it did in 1.43; else those made from now on.

    :raises ConfigError: it is none of the SDK's providers.
    """
    return _keepers.get_or_make(provider, lambda: _install(provider))


def _install(provider: Any) -> Keeper:
    sampler = getattr(provider, "sampler", None)
    processor = getattr(provider.get_tracer("flask_bodytrace.keep"), "span_processor", None)
    if sampler is None or processor is None:
        raise ConfigError(
            f"BODYTRACE_KEEP needs a tracer provider of OpenTelemetry's SDK, and this one is a "
            f"{type(provider).__name__}: pass one as tracer_provider, or take the setting out"
        )
    keeper = Keeper(processor)
    provider.sampler = KeepingSampler(sampler)
    tracers = getattr(provider, "_tracers", None)
    for tracer in list(tracers.values()) if isinstance(tracers, dict) else ():
        if getattr(tracer, "sampler", None) is sampler:
            tracer.sampler = provider.sampler
    provider.add_span_processor(keeper)
    return keeper


def _sampled(span: ReadableSpan) -> ReadableSpan:
    """A copy of an ended span with the sampled flag set."""
    found: Any = span.get_span_context()
    context = SpanContext(
        found.trace_id,
        found.span_id,
        is_remote=found.is_remote,
        trace_flags=TraceFlags(found.trace_flags | TraceFlags.SAMPLED),
        trace_state=found.trace_state,
    )
    marked = copy.copy(span)
    marked._context = context
    if marked.get_span_context() is context:
        return marked
    # Another SDK than this was written for. How much was dropped for limits is lost this way.
    return ReadableSpan(
        span.name,
        context,
        span.parent,
        span.resource,
        span.attributes,
        span.events,
        span.links,
        span.kind,
        status=span.status,
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )
