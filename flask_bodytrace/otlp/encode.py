"""Spans as an ``ExportTraceServiceRequest`` (OTLP 1.x), in the protobuf wire format. Pure, no I/O.

Each message is written field by field, with its tag as a literal; the numbers are those of
``opentelemetry/proto``. What a process says again and again (attributes of routes, methods and
hosts, resources, scopes) is kept as bytes, bounded.

A span with anything this does not know, itself or in its resource or scope, is given to the
official encoder; one that it refuses as well is left out, alone.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from struct import Struct
from typing import TYPE_CHECKING, Any

from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind

from flask_bodytrace.log_once import LogOnce
from flask_bodytrace.otel.span_fields import SpanFields, attributes_of, read

from .attributes import MAX_KEYS, MAX_LENGTH, AttributeEncoder
from .wire import sized, varint

if TYPE_CHECKING:
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope

_log = logging.getLogger("flask_bodytrace")

MAX_SOURCES = 64
"""Resources and scopes that are kept."""

# start_time_unix_nano = 7 and end_time_unix_nano = 8, fixed64.
_times = Struct("<BQBQ").pack
# time_unix_nano = 1, fixed64, and the tag of what follows it.
_event_time = Struct("<BQB").pack
# The field `kind`, number 6.
_KINDS = {kind: bytes((0x30, kind.value + 1)) for kind in SpanKind}
# The field `status`, number 15.
_UNSET = b"\x7a\x00"
_unset = ReadableSpan("", resource=Resource.get_empty()).status
# flags = 16, fixed32: whether the parent is remote is known, and whether it is.
_LOCAL, _REMOTE = b"\x85\x01\x00\x01\x00\x00", b"\x85\x01\x00\x03\x00\x00"
_LOCAL_LINK, _REMOTE_LINK = b"\x35\x00\x01\x00\x00", b"\x35\x00\x03\x00\x00"


ScopeKey = tuple[bytes, bytes, bool]
"""The fields ``scope`` and ``schema_url`` of ``ScopeSpans``, and whether there is no scope."""
Official = Callable[[ReadableSpan], tuple[bytes, ScopeKey, bytes]]
"""Encodes one span the official way: the fields of ``ResourceSpans`` that tell of its resource, its
scope, and the message ``Span``."""

# No span's resource.
_NONE = object()


class SpanEncoder:
    """Encodes batches of spans; keeps what repeats.

    :param official: for what is not known here; raises for what it cannot encode either.
    """

    def __init__(self, official: Official) -> None:
        self._official = official
        self.attributes = AttributeEncoder()
        self._pairs = self.attributes.pairs
        self._names: dict[str, bytes] = {}
        self._resources: dict[int, tuple[Resource, bytes]] = {}
        self._scopes: dict[int, tuple[InstrumentationScope | None, ScopeKey]] = {}
        self._report = LogOnce("a span cannot be encoded and is left out: %s")
        self.left_out = 0
        """Spans that nobody could encode."""

    def request(self, spans: Sequence[ReadableSpan]) -> bytes:
        """An ``ExportTraceServiceRequest``; spans are grouped by resource, then by scope."""
        grouped: dict[bytes, dict[ScopeKey, list[bytes]]] = {}
        resource: Any = _NONE
        scope: Any = None
        together: list[bytes] = []
        for span in spans:
            try:
                of_resource, of_scope, fields = read(span)
                encoded = self.span(fields)
                if of_resource is not resource or of_scope is not scope:
                    together = _place(grouped, self._resource(of_resource), self._scope(of_scope))
                    resource, scope = of_resource, of_scope
            except Exception:  # noqa: BLE001 - whatever it has that is not known here
                try:
                    resource_fields, scope_key, encoded = self._official(span)
                except Exception as error:  # noqa: BLE001 - the rest of the batch is to arrive
                    self.left_out += 1
                    self._report(type(error).__name__)
                    continue
                together = _place(grouped, resource_fields, scope_key)
                resource = _NONE
            # The field `spans`, number 2.
            together += (b"\x12", varint(len(encoded)), encoded)
        return b"".join(_joined(grouped))

    def span(self, fields: SpanFields) -> bytes:
        """One span as a message ``Span``.

        :raises Exception: it has something that is not known here.
        """
        # fmt: off
        (
            trace_id, span_id, state, parent, name, kind, start, end, attributes,
            dropped_attributes, events, dropped_events, links, dropped_links, status,
        ) = fields
        # fmt: on
        parts = [b"\x0a\x10", trace_id.to_bytes(16, "big")]
        parts += (b"\x12\x08", span_id.to_bytes(8, "big"))
        if state is not None:
            text = ",".join([f"{key}={value}" for key, value in state.items()])
            parts.append(b"\x1a" + sized(text.encode()))
        flags = _LOCAL
        if parent is not None:
            parts += (b"\x22\x08", parent.span_id.to_bytes(8, "big"))
            if parent.is_remote:
                flags = _REMOTE
        parts += (b"\x2a", self._names.get(name) or self._name(name), _KINDS[kind])
        parts.append(_times(0x39, start or 0, 0x41, end or 0))
        if attributes:
            parts += (b"\x4a", b"\x4a".join(self._pairs(attributes)))
        if dropped_attributes:
            parts.append(b"\x50" + varint(dropped_attributes))
        for event in events:
            encoded = self._event(event)
            parts += (b"\x5a", varint(len(encoded)), encoded)
        if dropped_events:
            parts.append(b"\x60" + varint(dropped_events))
        for link in links:
            encoded = self._link(link)
            parts += (b"\x6a", varint(len(encoded)), encoded)
        if dropped_links:
            parts.append(b"\x70" + varint(dropped_links))
        parts.append(_UNSET if status is _unset else _status(status))
        parts.append(flags)
        return b"".join(parts)

    def _name(self, name: str) -> bytes:
        """The name of a span or an event, sized."""
        encoded = sized(name.encode())
        if len(name) <= MAX_LENGTH:
            if len(self._names) >= MAX_KEYS:
                self._names.clear()
            self._names[name] = encoded
        return encoded

    def _event(self, event: Any) -> bytes:
        # time_unix_nano = 1, name = 2, attributes = 3, dropped_attributes_count = 4
        name = event.name
        attributes, dropped = attributes_of(event)
        parts = [
            _event_time(0x09, event.timestamp or 0, 0x12),
            self._names.get(name) or self._name(name),
        ]
        if attributes:
            parts += (b"\x1a", b"\x1a".join(self._pairs(attributes)))
        if dropped:
            parts.append(b"\x20" + varint(dropped))
        return b"".join(parts)

    def _link(self, link: Any) -> bytes:
        # trace_id = 1, span_id = 2, attributes = 4, dropped_attributes_count = 5, flags = 6
        context = link.context
        trace_id, span_id, is_remote, *_ = context
        attributes, dropped = attributes_of(link)
        parts = [b"\x0a\x10", trace_id.to_bytes(16, "big"), b"\x12\x08", span_id.to_bytes(8, "big")]
        if attributes:
            parts += (b"\x22", b"\x22".join(self._pairs(attributes)))
        if dropped:
            parts.append(b"\x28" + varint(dropped))
        parts.append(_REMOTE_LINK if is_remote else _LOCAL_LINK)
        return b"".join(parts)

    def _resource(self, resource: Resource) -> bytes:
        """The fields of ``ResourceSpans`` that tell of the resource; equal ones are equal bytes."""
        held = self._resources.get(id(resource))
        if held is not None and held[0] is resource:
            return held[1]
        message = b"".join(b"\x0a" + pair for pair in self._tolerant(resource.attributes))
        encoded = b"\x0a" + sized(message)
        if resource.schema_url:
            encoded += b"\x1a" + sized(resource.schema_url.encode())
        if len(self._resources) >= MAX_SOURCES:
            self._resources.clear()
        self._resources[id(resource)] = (resource, encoded)
        return encoded

    def _scope(self, scope: InstrumentationScope | None) -> ScopeKey:
        """What a `ScopeKey` has; equal ones are equal bytes."""
        held = self._scopes.get(id(scope))
        if held is not None and held[0] is scope:
            return held[1]
        message, schema_url = b"", b""
        if scope:
            # name = 1, version = 2, attributes = 3
            message = b"\x0a" + sized(scope.name.encode()) if scope.name else b""
            if scope.version:
                message += b"\x12" + sized(scope.version.encode())
            message += b"".join(b"\x1a" + pair for pair in self._tolerant(scope.attributes))
            if scope.schema_url:
                schema_url = b"\x1a" + sized(scope.schema_url.encode())
        encoded = b"\x0a" + sized(message)
        if len(self._scopes) >= MAX_SOURCES:
            self._scopes.clear()
        made = (encoded, schema_url, not scope)
        self._scopes[id(scope)] = (scope, made)
        return made

    def _tolerant(self, attributes: Mapping[str, Any] | None) -> list[bytes]:
        """As `_pairs`, without those that cannot be encoded."""
        pairs = []
        for key, value in (attributes or {}).items():
            try:
                pairs += self._pairs({key: value})
            except Exception as error:  # noqa: BLE001 - one attribute is no reason to lose spans
                _log.warning("attribute %.60s of a resource is left out: %s", key, error)
        return pairs


def _place(
    grouped: dict[bytes, dict[ScopeKey, list[bytes]]], resource: bytes, scope: ScopeKey
) -> list[bytes]:
    """Where the spans of a resource and scope are gathered."""
    return grouped.setdefault(resource, {}).setdefault(scope, [])


def _joined(grouped: dict[bytes, dict[ScopeKey, list[bytes]]]) -> list[bytes]:
    """The pieces of a request, to be joined once: each join copies all of it."""
    pieces: list[bytes] = []
    for resource, scopes in grouped.items():
        inner: list[bytes] = [resource]
        for (scope, schema_url, _), spans in scopes.items():
            # The field `scope_spans`, number 2.
            size = len(scope) + len(schema_url) + sum(map(len, spans))
            inner += (b"\x12", varint(size), scope, schema_url)
            inner += spans
        # The field `resource_spans`, number 1.
        pieces += (b"\x0a", varint(sum(map(len, inner))))
        pieces += inner
    return pieces


def _status(status: Any) -> bytes:
    # message = 2, code = 3
    code = status.status_code.value
    message = b"\x12" + sized(status.description.encode()) if status.description else b""
    return b"\x7a" + sized(message + (b"\x18" + varint(code) if code else b""))
