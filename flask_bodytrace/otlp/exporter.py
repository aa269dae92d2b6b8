"""OpenTelemetry's OTLP/HTTP span exporter, with an encoder of its own.

    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))

Or by name: ``OTEL_TRACES_EXPORTER=otlp_bodytrace``. Needs ``flask-bodytrace[otlp]``.

There is none for gRPC: the generated stub serialises protobuf messages, and takes nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from types import FunctionType
from typing import TYPE_CHECKING, Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import (
    OTLPSpanExporter as OfficialExporter,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import (
    Link,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    TraceState,
)

from .encode import ScopeKey, SpanEncoder
from .wire import sized

if TYPE_CHECKING:
    from collections.abc import Callable

    from opentelemetry.sdk.trace.export import SpanExportResult

_log = logging.getLogger("flask_bodytrace")
_ENCODE = "encode_spans"
"""The function that the official `export` calls, by its name in the module."""


class Serialized:
    """A request that is serialised already, where the official exporter expects a message."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializePartialToString(self) -> bytes:  # noqa: N802 - protobuf's own name
        """The request's bytes."""
        return self._data

    SerializeToString = SerializePartialToString


class OTLPSpanExporter(OfficialExporter):
    """OpenTelemetry's exporter of the same name, whose encoder takes a fraction of the time.

    Endpoint, headers, time-outs, retries, TLS, compression and limits are the official exporter's,
    and so are its parameters and the ``OTEL_EXPORTER_OTLP_*`` variables (OTLP 1.x, "OTLP/HTTP").
    Where the official package has changed so that its encoder cannot be replaced, or this one
    would not write the same, the official one encodes; `reason` says why.
    """

    reason: str
    """Why spans are encoded the official way; empty if they are not."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bodytrace_encoder = SpanEncoder(_official_span)
        self.reason = _difference(self._bodytrace_encoder)
        export = OfficialExporter.export
        if not self.reason and not (
            isinstance(export, FunctionType)
            and _ENCODE in export.__code__.co_names
            and export.__globals__.get(_ENCODE) is _encode_spans()
        ):
            self.reason = "the official exporter does not call encode_spans"
        if not self.reason:
            # The official `export`, unchanged, with our function under the name of its encoder.
            names = {**export.__globals__, _ENCODE: self._encode}
            renamed = FunctionType(
                export.__code__, names, argdefs=export.__defaults__, closure=export.__closure__
            )
            # A release may have parameters that this one does not know.
            renamed.__kwdefaults__ = export.__kwdefaults__
            self._bodytrace_export: Callable[..., SpanExportResult] = renamed

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Export a batch.

        A span that cannot be encoded is left out, and said once in the log; the others arrive.
        """
        if self.reason:
            return super().export(spans)
        return self._bodytrace_export(self, spans)

    def _encode(self, spans: Sequence[ReadableSpan]) -> Serialized:
        return Serialized(self._bodytrace_encoder.request(spans))

    @property
    def left_out(self) -> int:
        """Spans that nobody could encode."""
        return self._bodytrace_encoder.left_out


def _encode_spans() -> Callable[[Sequence[ReadableSpan]], Any]:
    """The official encoder; imported here since where it is may change."""
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    return encode_spans


def _official_span(span: ReadableSpan) -> tuple[bytes, ScopeKey, bytes]:
    (resource_spans,) = _encode_spans()([span]).resource_spans
    (scope_spans,) = resource_spans.scope_spans
    (encoded,) = scope_spans.spans
    scope = b"\x0a" + sized(scope_spans.scope.SerializePartialToString())
    url = scope_spans.schema_url.encode()
    schema_url = b"\x1a" + sized(url) if url else b""
    message = encoded.SerializePartialToString()
    resource_spans.ClearField("scope_spans")
    resource = resource_spans.SerializePartialToString()
    return resource, (scope, schema_url, not span.instrumentation_scope), message


def _difference(encoder: SpanEncoder) -> str:
    """How a batch encoded here differs from the official one; empty if it does not."""
    spans = list(_trial_spans())
    try:
        official = _encode_spans()(spans)
        mine = type(official)()
        mine.ParseFromString(encoder.request(spans))
    except Exception as error:  # noqa: BLE001 - whatever it is, the official encoder is right
        return f"not written for this release ({type(error).__name__}: {error})"
    return "" if mine == official else "the official encoder writes something else"


def _trial_spans() -> list[ReadableSpan]:
    """Spans with everything that a span can have."""
    flags = TraceFlags(TraceFlags.SAMPLED)
    state = TraceState([("vendor", "value"), ("other", "1")])
    value: Any = ["a", 1, -1, 2.5, True, b"\x00", None, ["nested"], {"key": [1, "b"]}]
    attributes: Any = {"text": "é", "empty": "", "number": -(2**63), "truth": False, "list": value}
    context = SpanContext(
        2**127 + 1, 2**63 + 1, is_remote=False, trace_flags=flags, trace_state=state
    )
    spans = []
    for number, kind in enumerate(SpanKind):
        parent = SpanContext(2**127 + 1, 7, is_remote=bool(number % 2)) if number else None
        spans.append(
            ReadableSpan(
                "GET /é" * number,
                context,
                parent,
                Resource({"service.name": f"shop{number % 2}"}, "https://schema" if number else ""),
                attributes,
                [Event("event", attributes, number)] * number,
                [Link(parent or context, attributes)] * number,
                kind,
                status=Status(StatusCode(number % 3), "why" if number % 3 == 2 else None),
                start_time=number or None,
                end_time=2**62,
                instrumentation_scope=InstrumentationScope("scope", "1", "https://url", {"a": 1}),
            )
        )
    return spans
