"""Writing trace headers on responses. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from flask_bodytrace.otel.sampling import SpanIds

from .headers import FORMS, X_PARENT_SPAN_ID, X_SPAN_ID, X_TRACE_ID, Header, timings

BUDGET = 4096
"""What one response may gain by us, bytes; whole headers are left out beyond it."""

_X_TRACE = frozenset(name.lower() for name in (X_TRACE_ID, X_SPAN_ID, X_PARENT_SPAN_ID))
_NOTED = _X_TRACE | {"access-control-allow-origin", "server-timing", "traceresponse"}
# As Flask and Werkzeug spell them; nothing has to be known of these.
_USUAL = frozenset(
    {"Allow", "Cache-Control", "Content-Length", "Content-Type", "Date", "ETag", "Location"}
    | {"Last-Modified", "Set-Cookie", "Vary"}
)
_OURS = 288
"""Bytes kept for all forms together, without the calls' entries."""
_OUR_METRICS = frozenset({"traceparent", "call"})

Written = tuple[Header, ...]
"""The headers that were written or merged into, as they are afterwards."""


class HeaderWriter:
    """Writes the chosen forms on a response.

    :param forms: any of `FORMS`.
    """

    __slots__ = ("_is_plain", "_server_timing", "_traceresponse", "_x_trace", "exposed")

    def __init__(self, forms: Sequence[str]) -> None:
        self._is_plain = tuple(forms) == FORMS[:1]
        self._x_trace = "x-trace" in forms
        self._server_timing = "server-timing" in forms
        self._traceresponse = "traceresponse" in forms
        self.exposed: list[str] = []
        if self._x_trace:
            self.exposed += [X_TRACE_ID, X_SPAN_ID, X_PARENT_SPAN_ID]
        if self._server_timing:
            self.exposed.append("Server-Timing")
        if self._traceresponse:
            self.exposed.append("traceresponse")

    def write(
        self,
        headers: list[Header],
        ids: SpanIds,
        calls: Callable[[int], Sequence[str]] | None = None,
    ) -> tuple[list[Header], Written]:
        """`headers` and ours, as a new list, and which ones are ours.

        A form that the application wrote itself stays its own. At most `BUDGET` bytes are added;
        what does not fit is left out whole.

        :param calls: bytes left -> Server-Timing entries of relayed calls that fit into them.
        """
        trace_id, span_id, parent, _ = ids
        for name, _ in headers:
            if name not in _USUAL and name.lower() in _NOTED:
                break
        else:
            if self._is_plain and calls is None:
                # What nearly all responses get.
                written: Written = ((X_TRACE_ID, trace_id), (X_SPAN_ID, span_id))
                if parent is not None:
                    written = (*written, (X_PARENT_SPAN_ID, parent))
                return [*headers, *written], written
        return self._write_among([*headers], {name.lower() for name, _ in headers}, ids, calls)

    def _write_among(
        self,
        result: list[Header],
        present: Collection[str],
        ids: SpanIds,
        calls: Callable[[int], Sequence[str]] | None,
    ) -> tuple[list[Header], Written]:
        """Add ours to `result`.

        :param present: the lower-case names in it.
        """
        trace_id, span_id, parent, flags = ids
        traceparent = f"00-{trace_id}-{span_id}-{flags:02x}"
        written: list[Header] = []
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
        if timing:
            written.append(_merge(result, "Server-Timing", ", ".join(timing)))
        if self._traceresponse and "traceresponse" not in present:
            written.append(("traceresponse", traceparent))
            result.append(written[-1])
        if self._x_trace and _X_TRACE.isdisjoint(present):
            ours = [(X_TRACE_ID, trace_id), (X_SPAN_ID, span_id)]
            if parent is not None:
                ours.append((X_PARENT_SPAN_ID, parent))
            written += ours
            result += ours
        return result, tuple(written)


def without(headers: Iterable[Header], written: Written) -> list[Header]:
    """`headers` without the trace headers that were written there before, whatever their ids."""
    names = {name.lower() for name, _ in written}
    if X_TRACE_ID.lower() in names:
        # The parent's id is there for some requests and missing for others.
        names |= _X_TRACE
    kept: list[Header] = []
    for name, value in headers:
        lowered = name.lower()
        if lowered == "server-timing" and lowered in names:
            rest = ", ".join(
                entry for metric, entry in _entries(value) if metric not in _OUR_METRICS
            )
            if rest:
                kept.append((name, rest))
        elif lowered not in names:
            kept.append((name, value))
    return kept


def _entries(text: str) -> Iterable[tuple[str, str]]:
    """(metric's name, the text) of each entry of a Server-Timing value."""
    start, quoted, escaped = 0, False, False
    for position, character in enumerate(f"{text},"):
        if escaped:
            escaped = False
        elif quoted and character == "\\":
            escaped = True
        elif character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            entry = text[start:position].strip()
            if entry:
                yield entry.partition(";")[0].strip(), entry
            start = position + 1
    if quoted and (entry := text[start:].strip()):
        yield entry.partition(";")[0].strip(), entry


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
    return len("Access-Control-Expose-Headers") + len(": ") + len(text) + len("\r\n")


def _has_traceparent(headers: Iterable[Header]) -> bool:
    return any(
        metric == "traceparent"
        for name, value in headers
        if name.lower() == "server-timing"
        for metric, _ in timings(value)
    )


def _merge(headers: list[Header], name: str, value: str) -> Header:
    """Add `value` to the list-valued header `name`; the header as it is then."""
    lowered = name.lower()
    for index, (header, present) in enumerate(headers):
        if header.lower() == lowered:
            merged = (header, f"{present}, {value}" if present.strip() else value)
            headers[index] = merged
            return merged
    headers.append((name, value))
    return headers[-1]
