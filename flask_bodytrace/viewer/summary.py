"""A trace in one line: what the list shows and filters by."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from msgspec import Struct

from .model import Attributes, Span

_ID_NAME = re.compile(r".*(?:[._-]id|[a-z]Id|[a-z]ID)")
# Ids of machinery, by OpenTelemetry's semantic conventions: nobody looks a trace up by them.
_MACHINERY = re.compile(
    r"(?:aws|azure|cloud|container|cpu|db|device|faas|gcp|gen_ai|host|k8s|messaging|network|nodejs"
    r"|os|process|rpc|service|telemetry|thread|tls|vcs|webengine)\."
)
IDS = "bodytrace.ids"
"""An attribute, of a resource or a span, that lists which attributes are business ids."""
_MAX_IDS = 64
_MAX_VALUE = 256
_MAX_LINKS = 32
_MAX_SHAPES = 4_096
_MAX_SHAPE = 4_096
"""Characters of all names of a span's attributes."""
_ERROR = 2


class Summary(Struct, frozen=True, gc=False):
    """One trace.

    Times are ns. `duration` is the answer's: that of the span it starts with, where that was
    received; `whole` goes from the first start to the last end. `status` is the HTTP status of its
    first span; `complete` says that a span without a parent is among those received; `left_out`
    counts spans and log records that did not fit; `links` are other traces that its spans link to.
    """

    trace_id: str
    name: str
    service: str
    services: tuple[str, ...]
    start: int
    duration: int
    whole: int
    spans: int
    errors: int
    status: int | None
    ids: tuple[tuple[str, str], ...]
    complete: bool
    left_out: int
    links: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether any of its spans is an error."""
        return self.errors > 0


def root_of(spans: Mapping[str, Span]) -> Span:
    """The span a trace starts with: without a parent, else without its parent here, else first."""
    best: Span | None = None
    lowest = 3
    for span in spans.values():
        parent = span.parent_id
        rank = 0 if parent is None else 1 if parent not in spans else 2
        if best is None or rank < lowest or (rank == lowest and span.start < best.start):
            best, lowest = span, rank
    assert best is not None
    return best


def http_status(span: Span) -> int | None:
    """The HTTP status code of a span, by the present and the former convention."""
    for name in ("http.response.status_code", "http.status_code"):
        value = span.attributes.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{2}", value):
            return int(value)
    return None


class Digest:
    """What a trace's spans add up to, each looked at once, as it comes.

    So a list after a burst of spans, and of a trace that grows, costs little.

    :param business_ids: attributes that are business ids for sure.
    """

    __slots__ = (
        "_business_ids",
        "_end",
        "_errors",
        "_ids",
        "_known",
        "_links",
        "_resource",
        "_services",
        "_start",
    )

    def __init__(self, business_ids: frozenset[str]) -> None:
        self._business_ids = self._known = business_ids
        self._resource: Attributes | None = None
        self._services: dict[str, None] = {}
        self._ids: dict[tuple[str, str], None] = {}
        self._links: dict[str, None] = {}
        self._start = self._end = self._errors = 0

    def add(self, span: Span) -> None:
        """Look at a span that has not been here before."""
        if not self._services or span.start < self._start:
            self._start = span.start
        if not self._services or span.end > self._end:
            self._end = span.end
        self._services[span.service] = None
        if span.status == _ERROR:
            self._errors += 1
        if span.links and len(self._links) < _MAX_LINKS:
            self._links.update((link.trace_id, None) for link in span.links[:_MAX_LINKS])
        ids = self._ids
        if len(ids) >= _MAX_IDS:
            return
        if span.resource is not self._resource:
            # The spans of one resource come together.
            self._resource = span.resource
            declared = _names_in(span.resource)
            self._known = self._business_ids | declared if declared else self._business_ids
        attributes, known = span.attributes, self._known
        if IDS in attributes:
            known |= _names_in(attributes)
        for name in _id_names(tuple(attributes), known):
            value = attributes[name]
            is_id = isinstance(value, str | int) and not isinstance(value, bool)
            if is_id and len(ids) < _MAX_IDS:
                ids[name, str(value)[:_MAX_VALUE]] = None

    def summary(self, trace_id: str, spans: Mapping[str, Span], left_out: int) -> Summary:
        """Of the trace with these spans: those that were looked at, at least one."""
        root = root_of(spans)
        is_complete = root.parent_id is None
        whole = self._end - self._start
        return Summary(
            trace_id=trace_id,
            name=root.name,
            service=root.service,
            services=tuple({root.service: None} | self._services),
            start=self._start,
            duration=root.duration if is_complete and root.duration >= 0 else whole,
            whole=whole,
            spans=len(spans),
            errors=self._errors,
            status=http_status(root),
            ids=tuple(self._ids),
            complete=is_complete,
            left_out=left_out,
            links=tuple(link for link in self._links if link != trace_id),
        )


def digest_of(spans: Iterable[Span], business_ids: frozenset[str]) -> Digest:
    """What these spans add up to."""
    digest = Digest(business_ids)
    for span in spans:
        digest.add(span)
    return digest


def summarize(
    trace_id: str, spans: Mapping[str, Span], business_ids: frozenset[str], left_out: int
) -> Summary:
    """Sum up a trace, which has at least one span."""
    return digest_of(spans.values(), business_ids).summary(trace_id, spans, left_out)


def _names_in(attributes: Attributes) -> frozenset[str]:
    """The attributes that a service says are business ids: a list of names, or one with commas."""
    found = attributes.get(IDS)
    if isinstance(found, str):
        found = [name.strip() for name in found.split(",")]
    if not isinstance(found, list):
        return frozenset()
    return frozenset(name for name in found[:_MAX_IDS] if isinstance(name, str))


_shapes: dict[tuple[tuple[str, ...], frozenset[str]], tuple[str, ...]] = {}


def _id_names(names: tuple[str, ...], known: frozenset[str]) -> tuple[str, ...]:
    """Which of a span's attributes are business ids.

    Spans of one kind have the same names in the same order: one look finds what is known of all.
    """
    found = _shapes.get((names, known))
    if found is None:
        found = tuple(name for name in names if name in known or _is_id_name(name))
        # Such kinds are few; where they are not, they are not worth remembering.
        if len(_shapes) < _MAX_SHAPES and sum(map(len, names)) < _MAX_SHAPE:
            _shapes[names, known] = found
    return found


def _is_id_name(name: str) -> bool:
    return _ID_NAME.fullmatch(name) is not None and _MACHINERY.match(name) is None
