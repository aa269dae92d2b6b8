"""Attributes put on the SDK's spans without its checks of each, where these can find nothing.

Sixteen attributes take the SDK's cleaning longer than all else about a span. Ours need none: they
are strings and numbers under proper names. Where anything is not as it was when this was written,
or somebody looks at a span when it starts, it goes the usual way.
"""

from __future__ import annotations

from typing import Any

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.sdk.trace import (
    ReadableSpan,
    SpanProcessor,
    SynchronousMultiSpanProcessor,
    _Span,
)
from opentelemetry.sdk.trace import Tracer as SdkTracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.sampling import ParentBased, StaticSampler, TraceIdRatioBased
from opentelemetry.trace import Span, Tracer

_IS_KNOWN = (
    {"_dict", "maxlen", "max_value_len"} <= vars(BoundedAttributes()).keys()
    and {"_attributes", "_end_time"} <= vars(ReadableSpan("", resource=Any)).keys()  # type: ignore[arg-type]
)
_BLIND = (BatchSpanProcessor, SimpleSpanProcessor)
_OWN = (StaticSampler, TraceIdRatioBased)


def put(span: Span, attributes: dict[str, str | int]) -> None:
    """As ``span.set_attributes``, for values that need no cleaning."""
    if type(span) is _Span and _IS_KNOWN and span._end_time is None:
        store: Any = span._attributes
        if store.max_value_len is None and (
            store.maxlen is None or len(store._dict) + len(attributes) <= store.maxlen
        ):
            store._dict.update(attributes)
            return
    span.set_attributes(attributes)


class Onlookers:
    """Whether anything reads the attributes of `tracer`'s spans when they start."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Any = tracer
        self._seen: object = None
        self._none = False
        self._samples_blindly = False
        if _IS_KNOWN and type(tracer) is SdkTracer:
            sampler: Any = tracer.sampler
            samplers = [sampler]
            if type(sampler) is ParentBased:
                samplers = list(vars(sampler).values())
            self._samples_blindly = (
                all(type(sampler) in _OWN for sampler in samplers)
                and type(tracer.span_processor) is SynchronousMultiSpanProcessor
            )

    @property
    def none(self) -> bool:
        """Whether nothing does: neither the sampler nor any processor there is by now."""
        if not self._samples_blindly:
            return False
        processors = self._tracer.span_processor._span_processors
        if processors is not self._seen:
            self._none = all(
                type(processor) in _BLIND
                or type(processor).on_start is SpanProcessor.on_start
                or not getattr(processor, "looks_at_attributes", True)
                for processor in processors
            )
            self._seen = processors
        return self._none
