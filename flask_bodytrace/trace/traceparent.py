"""Incoming trace context, the X-Trace-ID propagator and the business-key id generator."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from opentelemetry.trace import (
    SpanContext,
    TraceFlags,
    TraceState,
)

if TYPE_CHECKING:
    pass

_TRACEPARENT_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_TRACEPARENT = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
_STATE_MEMBER = re.compile(
    r"([a-z0-9][_0-9a-z\-*/@]{0,255})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_FLAGS = {f"{flags:02x}": flags for flags in range(256)}
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16
_MAX_STATE_MEMBERS = 32
_MAX_STATE_LENGTH = 8192


class _State(TraceState):
    """What `parse_tracestate` let through: OpenTelemetry's constructor knows Level 1 keys only."""

    def __init__(self, members: dict[str, str]) -> None:
        super().__init__()
        self._dict = members


def parse_traceparent(traceparent: str, tracestate: str = "") -> SpanContext | None:
    """A W3C Trace Context pair (Level 1 and 2, 3.2 and 3.3); None unless it is valid throughout.

    An invalid tracestate is dropped as a whole and leaves the traceparent standing.
    """
    match = _TRACEPARENT_00.fullmatch(traceparent)
    if match is not None:
        trace_id, span_id, flags = match.groups()
    else:
        match = _TRACEPARENT.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest):
            return None
    trace, span = int(trace_id, 16), int(span_id, 16)
    if not (trace and span):
        return None
    state = parse_tracestate(tracestate) if tracestate else None
    return SpanContext(trace, span, True, TraceFlags(int(flags, 16)), state)


def parse_tracestate(text: str) -> TraceState | None:
    """A W3C tracestate list (Level 2, 3.3); of a doubled key the first member stays.

    None if any member is malformed, there are over 32, or they exceed 8192 characters.
    """
    if len(text) > _MAX_STATE_LENGTH:
        return None
    members: dict[str, str] = {}
    count = 0
    for part in text.split(","):
        member = part.strip(" \t")
        if not member:
            continue
        match = _STATE_MEMBER.fullmatch(member)
        count += 1
        if match is None or count > _MAX_STATE_MEMBERS:
            return None
        members.setdefault(match[1], match[2])
    return _State(members) if members else None
