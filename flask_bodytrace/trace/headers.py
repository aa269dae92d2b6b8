"""Trace headers on responses: writing and reading them. Pure, no I/O, no OpenTelemetry.

Three forms are written on request and all are read: ``x-trace`` (X-Trace-ID, X-Span-ID,
X-Parent-Span-ID), ``server-timing`` (``traceparent;desc="00-…"``, as RUM agents read it; the W3C
Level 3 draft says ``trace;desc=00-…``) and ``traceresponse`` (withdrawn from W3C Level 2).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass

FORMS = ("x-trace", "server-timing", "traceresponse")
BUDGET = 4096
"""What one response may gain by us, bytes; whole headers are left out beyond it."""

Header = tuple[str, str]

_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_READ_LIMIT = 16384
_NAME = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_METRIC = re.compile(rf"[ \t,]*({_NAME})")
_PARAMETER = re.compile(
    rf"""[ \t]*;[ \t]*({_NAME})[ \t]*(?:=[ \t]*(?:({_NAME})|"((?:[^"\\]|\\.?)*)(?:"|$))?)?"""
)
_X_TRACE = frozenset({"x-trace-id", "x-span-id", "x-parent-span-id"})
_NOTED = _X_TRACE | {"access-control-allow-origin", "server-timing", "traceresponse"}
# As Flask and Werkzeug spell them; of these nothing has to be known.
_USUAL = frozenset(
    {"Allow", "Cache-Control", "Content-Length", "Content-Type", "Date", "ETag", "Location"}
    | {"Last-Modified", "Set-Cookie", "Vary"}
)
_OURS = 288
"""Bytes kept for all forms together, without the calls' entries."""
_ZERO_TRACE = "0" * 32
_ZERO_SPAN = "0" * 16


@dataclass(frozen=True, slots=True)
class SpanReference:
    """Which span answered: ids in lower-case hex, None where the response does not say."""

    trace_id: str
    span_id: str | None = None
    parent_span_id: str | None = None
    sampled: bool | None = None


Names = tuple[str, str, str | None, int]
"""Trace id, span id and parent's span id in lower-case hex, and the W3C trace flags."""


class HeaderWriter:
    """Writes the chosen forms on a response.

    :param forms: any of `FORMS`.
    """

    __slots__ = ("_is_plain", "_server_timing", "_traceresponse", "_x_trace", "exposed")

    def __init__(self, forms: Sequence[str]) -> None:
        self._is_plain = tuple(forms) == ("x-trace",)
        self._x_trace = "x-trace" in forms
        self._server_timing = "server-timing" in forms
        self._traceresponse = "traceresponse" in forms
        self.exposed: list[str] = []
        if self._x_trace:
            self.exposed += ["X-Trace-ID", "X-Span-ID", "X-Parent-Span-ID"]
        if self._server_timing:
            self.exposed.append("Server-Timing")
        if self._traceresponse:
            self.exposed.append("traceresponse")

    def write(
        self,
        headers: Iterable[Header],
        names: Names,
        calls: Callable[[int], Sequence[str]] | None = None,
    ) -> list[Header]:
        """`headers` and ours, as a new list; a form the application set itself stays its own.

        At most `BUDGET` bytes are added; what does not fit is left out whole.

        :param calls: bytes left -> Server-Timing entries of relayed calls that fit into them.
        """
        trace_id, span_id, parent, _ = names
        present: Collection[str] = ()
        for name, _ in headers:
            if name not in _USUAL and name.lower() in _NOTED:
                present = {name.lower() for name, _ in headers}
                break
        else:
            if self._is_plain and calls is None and parent is not None:
                # What nearly all answers get, in half the steps.
                return [
                    *headers,
                    ("X-Trace-ID", trace_id),
                    ("X-Span-ID", span_id),
                    ("X-Parent-Span-ID", parent),
                ]
        return self._write_among([*headers], present, names, calls)

    def _write_among(
        self,
        result: list[Header],
        present: Collection[str],
        names: Names,
        calls: Callable[[int], Sequence[str]] | None,
    ) -> list[Header]:
        """Add ours to `result`.

        :param present: the lower-case names in it, if any of them matters.
        """
        trace_id, span_id, parent, flags = names
        traceparent = f"00-{trace_id}-{span_id}-{flags:02x}"
        left = BUDGET - _OURS
        if "access-control-allow-origin" in present:
            exposed = self.exposed
            if calls is not None and not self._server_timing:
                exposed = [*exposed, "Server-Timing"]
            left -= expose(result, exposed)
        timing: list[str] = []
        if self._server_timing and not ("server-timing" in present and _has_traceparent(result)):
            timing.append(f'traceparent;desc="{traceparent}"')
        if calls is not None:
            timing += calls(left)
        if timing and "server-timing" in present:
            _merge(result, "Server-Timing", ", ".join(timing))
        elif timing:
            result.append(("Server-Timing", ", ".join(timing)))
        if self._traceresponse and "traceresponse" not in present:
            result.append(("traceresponse", traceparent))
        if self._x_trace and _X_TRACE.isdisjoint(present):
            result += (("X-Trace-ID", trace_id), ("X-Span-ID", span_id))
            if parent is not None:
                result.append(("X-Parent-Span-ID", parent))
        return result


def expose(headers: list[Header], names: Iterable[str]) -> int:
    """Add `names` to Access-Control-Expose-Headers, in place, each once; the bytes it took.

    ``*`` stands for every name, but not where credentials are allowed (Fetch standard, CORS).
    """
    present: set[str] = set()
    credentials = False
    for header, value in headers:
        lowered = header.lower()
        if lowered == "access-control-expose-headers":
            present.update(name.strip().lower() for name in value.split(","))
        elif lowered == "access-control-allow-credentials":
            credentials = value.strip() == "true"
    missing = [name for name in names if name.lower() not in present]
    if not missing or ("*" in present and not credentials):
        return 0
    text = ", ".join(missing)
    _merge(headers, "Access-Control-Expose-Headers", text)
    return _size(("Access-Control-Expose-Headers", text))


def _size(header: Header) -> int:
    """Bytes of a header on the wire."""
    name, value = header
    return len(name) + len(": ") + len(value) + len("\r\n")


def _has_traceparent(headers: Iterable[Header]) -> bool:
    return any(
        metric == "traceparent"
        for name, value in headers
        if name.lower() == "server-timing"
        for metric, _ in timings(value)
    )


def parse(headers: Iterable[Header]) -> SpanReference | None:
    """Which span a response names, in any of the known forms; None if it names none validly.

    :param headers: (name, value) pairs, untrusted.
    """
    fields: dict[str, str] = {}
    for name, value in headers:
        key = name.lower()
        fields[key] = f"{fields[key]}, {value}" if key in fields else value
    traceparent = _TRACEPARENT.fullmatch(fields.get("traceresponse", "").strip())
    if traceparent is None:
        for metric, parameters in timings(fields.get("server-timing", "")):
            if metric in {"traceparent", "trace"}:
                traceparent = _TRACEPARENT.fullmatch(parameters.get("desc", ""))
                break
    trace_id = _hex(fields.get("x-trace-id"), 32)
    if trace_id is not None:
        sampled = None
        if traceparent is not None and traceparent[1] == trace_id:
            sampled = bool(int(traceparent[3], 16) & 1)
        return SpanReference(
            trace_id,
            _hex(fields.get("x-span-id"), 16),
            _hex(fields.get("x-parent-span-id"), 16),
            sampled,
        )
    if traceparent is None or traceparent[1] == _ZERO_TRACE or traceparent[2] == _ZERO_SPAN:
        return None
    return SpanReference(traceparent[1], traceparent[2], sampled=bool(int(traceparent[3], 16) & 1))


def timings(text: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The (name, parameters) of each Server-Timing metric, quoted strings undone.

    Of a doubled parameter the first counts, as in browsers (W3C Server Timing, section 5).

    :param text: the field's value, untrusted; only its first 16 KiB are read.
    """
    text = text[:_READ_LIMIT]
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
            yield metric[1], parameters
        position = text.find(",", position) + 1 or len(text)


def _hex(text: str | None, length: int) -> str | None:
    if text is None:
        return None
    text = text.strip().lower()
    if re.fullmatch(rf"[0-9a-f]{{{length}}}", text) and text.strip("0"):
        return text
    return None


def _merge(headers: list[Header], name: str, value: str) -> None:
    lowered = name.lower()
    for index, (header, present) in enumerate(headers):
        if header.lower() == lowered:
            headers[index] = (header, f"{present}, {value}" if present.strip() else value)
            return
    headers.append((name, value))
