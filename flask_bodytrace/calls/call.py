"""One call of a trace: what its caller knows of it, and the calls below it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

KINDS = {"S": "server", "C": "client", "I": "internal", "P": "producer", "M": "consumer"}
MAX_NAME = 128
MAX_MORE = 999_999
_NOT_STATUS = re.compile(r"[^A-Za-z0-9_.]")


@dataclass(slots=True, eq=False)
class Call:
    """One span of a trace as its caller sees it, and the calls below it.

    :param kind: one of the values of `KINDS`.
    :param status: an HTTP status, or the name of an error; empty if there is neither.
    :param span_id: 16 hex digits; None for a call that nobody answered for with a span.
    :param parent_span_id: that of the next known span above.
    :param milliseconds: how long it took, up to the response's headers; None if unknown.
    :param start: milliseconds after the parent's start; None if unknown.
    :param began: nanoseconds since 1970, where this process measured it.
    :param more: calls below that were left out.
    :param via: whether spans between this one and its parent are unknown.
    """

    name: str
    service: str = ""
    kind: str = "internal"
    status: str = ""
    trace_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
    milliseconds: float | None = None
    start: float | None = None
    began: int | None = None
    more: int = 0
    via: bool = False
    children: list[Call] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether it is an error by the semantic conventions: 5xx, for clients also 4xx."""
        if self.status.isdecimal():
            return int(self.status) >= (400 if self.kind == "client" else 500)
        return bool(self.status)

    def walk(self) -> Iterator[Call]:
        """This call and all below it, parents before their children."""
        waiting = [self]
        while waiting:
            call = waiting.pop()
            yield call
            waiting.extend(reversed(call.children))


def printable(text: str, limit: int = MAX_NAME) -> str:
    """`text` without anything that is not printed, cut to `limit` characters."""
    text = text[:limit]
    return text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)


def status_of(text: str) -> str:
    """`text` as a `Call.status`."""
    return _NOT_STATUS.sub("_", text)[:64]
