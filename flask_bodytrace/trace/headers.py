"""Trace headers on responses: their names and forms, and reading them. Pure, no I/O.

Three forms are written where settings say so (`header_writer`) and all are read: ``x-trace``
(X-Trace-ID, X-Span-ID, X-Parent-Span-ID), ``server-timing`` (``traceparent;desc="00-…"``, as RUM
agents read it; the W3C Level 3 draft says ``trace;desc=00-…``) and ``traceresponse`` (withdrawn
from W3C Level 2).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from .traceparent import NO_SPAN, NO_TRACE, TRACEPARENT_00

FORMS = ("x-trace", "server-timing", "traceresponse")
X_TRACE_ID = "X-Trace-ID"
X_SPAN_ID = "X-Span-ID"
X_PARENT_SPAN_ID = "X-Parent-Span-ID"
Header = tuple[str, str]

_READ_LIMIT = 16384
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_METRIC = re.compile(rf"[ \t]*({_NAME})")
_PARAMETER = re.compile(
    rf"""[ \t]*;[ \t]*({_NAME})[ \t]*(?:=[ \t]*(?:({_NAME})|"((?:[^"\\]|\\.?)*)(?:"|$))?)?"""
)


@dataclass(frozen=True, slots=True)
class SpanReference:
    """Which span answered: ids in lower-case hex, None where the response does not say."""

    trace_id: str
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None


def parse(headers: Iterable[Header]) -> SpanReference | None:
    """Which span a response names, in any of the known forms; None if it names none validly.

    :param headers: (name, value) pairs, untrusted.
    """
    fields: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    traceparent = TRACEPARENT_00.fullmatch(fields.get("traceresponse", "").strip())
    if traceparent is None:
        for metric, parameters in timings(fields.get("server-timing", "")):
            if metric in {"traceparent", "trace"}:
                traceparent = TRACEPARENT_00.fullmatch(parameters.get("desc", ""))
                break
    trace_id = _hex(fields.get(X_TRACE_ID.lower()), 32)
    if trace_id is not None:
        sampled = None
        if traceparent is not None and traceparent[1] == trace_id:
            sampled = bool(int(traceparent[3], 16) & 1)
        return SpanReference(
            trace_id,
            _hex(fields.get(X_SPAN_ID.lower()), 16),
            _hex(fields.get(X_PARENT_SPAN_ID.lower()), 16),
            sampled,
        )
    if traceparent is None or traceparent[1] == NO_TRACE or traceparent[2] == NO_SPAN:
        return None
    return SpanReference(traceparent[1], traceparent[2], sampled=bool(int(traceparent[3], 16) & 1))


Metric = tuple[str, Mapping[str, str]]


def timings(text: str) -> Sequence[Metric]:
    """The (name, parameters) of each Server-Timing metric, quoted strings undone.

    Of a doubled parameter the first counts, as in browsers (W3C Server Timing, section 5).

    :param text: the field's value, untrusted; only its first 16 KiB are read.
    """
    return _timings(text[:_READ_LIMIT])


# A response is asked twice: which span it names, and which calls it relays.
@lru_cache(maxsize=4)
def _timings(text: str) -> Sequence[Metric]:
    found: list[Metric] = []
    position = 0
    while position < len(text):
        if metric := _METRIC.match(text, position):
            position = metric.end()
            parameters: dict[str, str] = {}
            while parameter := _PARAMETER.match(text, position):
                name, token, quoted = parameter.groups()
                value = re.sub(r"\\(.)", r"\1", quoted) if quoted else token or ""
                parameters.setdefault(name.lower(), value)
                position = parameter.end()
            found.append((metric[1], parameters))
        position = text.find(",", position) + 1 or len(text)
    return tuple(found)


def _hex(text: str | None, length: int) -> str | None:
    if text is None:
        return None
    text = text.strip().lower()
    if re.fullmatch(rf"[0-9a-f]{{{length}}}", text) and text.strip("0"):
        return text
    return None
