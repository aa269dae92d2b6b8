"""W3C Trace Context: ``traceparent`` and ``tracestate``, Level 1 and 2. Pure, no I/O."""

from __future__ import annotations

import re
from collections.abc import ItemsView, Iterator, KeysView, Mapping, ValuesView

from opentelemetry.trace import SpanContext, TraceFlags, TraceState

TRACEPARENT_00 = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
"""Version 00: trace id, parent id, flags."""
NO_TRACE = "0" * 32
NO_SPAN = "0" * 16

_LATER_VERSION = re.compile(
    r"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*"
)
_STATE_MEMBER = re.compile(
    r"([a-z0-9][_0-9a-z\-*/@]{0,255})"
    r"=([\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])"
)
_MAX_STATE_MEMBERS = 32
_MAX_STATE_LENGTH = 8192


class Level2State(TraceState):
    """A tracestate with keys of Level 2, which OpenTelemetry's constructor would refuse.

    Immutable, as every trace state: what changes it returns another one.
    """

    def __init__(self, members: Mapping[str, str]) -> None:
        super().__init__()
        self._members = dict(members)

    def __getitem__(self, key: str) -> str | None:  # type: ignore[override]
        return self._members.get(key)

    def __contains__(self, item: object) -> bool:
        return item in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mapping) and dict(self.items()) == dict(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self._members.items()))

    def __repr__(self) -> str:
        return repr([f"{{key={key}, value={value}}}" for key, value in self._members.items()])

    def add(self, key: str, value: str) -> TraceState:
        """With one more member, in front; unchanged if the key is there or the pair is invalid."""
        if key in self._members:
            return self
        return self._with(key, value)

    def update(self, key: str, value: str) -> TraceState:
        """With a member changed, and in front."""
        return self._with(key, value)

    def _with(self, key: str, value: str) -> TraceState:
        if _STATE_MEMBER.fullmatch(f"{key}={value}") is None:
            return self
        members = {key: value, **{k: v for k, v in self._members.items() if k != key}}
        return self if len(members) > _MAX_STATE_MEMBERS else Level2State(members)

    def delete(self, key: str) -> TraceState:
        """Without a member."""
        return Level2State({k: v for k, v in self._members.items() if k != key})

    def to_header(self) -> str:
        """The ``tracestate`` header."""
        return ",".join(f"{key}={value}" for key, value in self._members.items())

    def keys(self) -> KeysView[str]:
        """The members' keys."""
        return self._members.keys()

    def items(self) -> ItemsView[str, str]:
        """The members."""
        return self._members.items()

    def values(self) -> ValuesView[str]:
        """The members' values."""
        return self._members.values()


def parse_traceparent(traceparent: str, tracestate: str = "") -> SpanContext | None:
    """A traceparent (3.2) with its tracestate (3.3); None unless it is valid throughout.

    An invalid tracestate is dropped as a whole and leaves the traceparent standing.
    """
    match = TRACEPARENT_00.fullmatch(traceparent)
    if match is not None:
        trace_id, span_id, flags = match.groups()
    else:
        match = _LATER_VERSION.fullmatch(traceparent)
        if match is None:
            return None
        version, trace_id, span_id, flags, rest = match.groups()
        if version == "ff" or (version == "00" and rest):
            return None
    if trace_id == NO_TRACE or span_id == NO_SPAN:
        return None
    return SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
        trace_state=parse_tracestate(tracestate) if tracestate else None,
    )


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
    return Level2State(members) if members else None
