"""Spans and log records as bytes, and back: what `kept_store` and `handover` write to files.

A span's resource is apart: many spans share one.
"""

from __future__ import annotations

import json

import msgspec

from . import otlp, otlp_writer
from .model import Attributes, Event, Link, LogRecord, Span

SPAN, OTLP, LOG = "span", "otlp", "log"
"""What the bytes are: an OTLP span has its resource within."""
NOT_PACKED = (ValueError, TypeError, LookupError, AttributeError, msgspec.MsgspecError)
"""What `unpacked`, or making use of it, raises for bytes that are something else."""


def packed(span: Span) -> tuple[str, bytes]:
    """A span, without its resource where it is a `SPAN`."""
    found = {name: getattr(span, name) for name in Span.__struct_fields__ if name != "resource"}
    try:
        msgspec.msgpack.encode(span.resource)
        return SPAN, msgspec.msgpack.encode(found)
    except (OverflowError, ValueError, TypeError):
        # Half a surrogate pair, or a number of more than 64 bits, which OTLP's text can tell.
        return OTLP, otlp_writer.to_json([span]).encode()


def packed_log(log: LogRecord) -> tuple[str, bytes]:
    """A log record; what no encoding can write of it is left out."""
    try:
        return LOG, msgspec.msgpack.encode(log)
    except (OverflowError, ValueError, TypeError):
        body = json.dumps(log.body, default=str)
        plain = msgspec.structs.replace(log, body=body, attributes={})
        return LOG, msgspec.msgpack.encode(plain)


def unpacked(form: str, data: bytes, resource: Attributes) -> tuple[list[Span], list[LogRecord]]:
    """What was packed.

    :param resource: the span's, if it is a `SPAN`.
    """
    if form == SPAN:
        found = msgspec.msgpack.decode(data)
        found["events"] = [Event(**event) for event in found["events"]]
        found["links"] = [Link(**link) for link in found["links"]]
        return [Span(**found, resource=resource)], []
    if form == OTLP:
        return otlp.spans_from_json(data), []
    return [], [LogRecord(**msgspec.msgpack.decode(data))]
