"""A trace in one line: what the list shows and filters by."""

from __future__ import annotations

import re
from collections.abc import Mapping

from msgspec import Struct

from .model import Attributes, Span, Value

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


class Summary(Struct, frozen=True):
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

    def rank(span: Span) -> tuple[int, int]:
        if span.parent_id is None:
            return 0, span.start
        return (1 if span.parent_id not in spans else 2), span.start

    return min(spans.values(), key=rank)


def http_status(span: Span) -> int | None:
    """The HTTP status code of a span, by the present and the former convention."""
    for name in ("http.response.status_code", "http.status_code"):
        value = span.attributes.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and re.fullmatch(r"[1-9][0-9]{2}", value):
            return int(value)
    return None


def summarize(
    trace_id: str, spans: Mapping[str, Span], business_ids: frozenset[str], left_out: int
) -> Summary:
    """Sum up a trace, which has at least one span."""
    root = root_of(spans)
    services: dict[str, None] = {root.service: None}
    ids: dict[tuple[str, str], None] = {}
    start, end, errors = root.start, root.end, 0
    links: dict[str, None] = {}
    declared: dict[int, frozenset[str]] = {}
    for span in spans.values():
        services[span.service] = None
        start = min(start, span.start)
        end = max(end, span.end)
        errors += span.failed
        if span.links and len(links) < _MAX_LINKS:
            links.update((link.trace_id, None) for link in span.links[:_MAX_LINKS])
        if len(ids) >= _MAX_IDS:
            continue
        known = declared.get(id(span.resource))
        if known is None:
            known = business_ids | _names_in(span.resource)
            declared[id(span.resource)] = known
        if IDS in span.attributes:
            known |= _names_in(span.attributes)
        for name, value in span.attributes.items():
            # Most names are known to be none: the loop is over all there is in the store.
            if not _names.get(name, True) and name not in known:
                continue
            if len(ids) < _MAX_IDS and _is_business_id(name, value, known):
                ids[name, str(value)[:_MAX_VALUE]] = None
    links.pop(trace_id, None)
    is_complete = root.parent_id is None
    return Summary(
        trace_id=trace_id,
        name=root.name,
        service=root.service,
        services=tuple(services),
        start=start,
        duration=root.duration if is_complete and root.duration >= 0 else end - start,
        whole=end - start,
        spans=len(spans),
        errors=errors,
        status=http_status(root),
        ids=tuple(ids),
        complete=is_complete,
        left_out=left_out,
        links=tuple(links),
    )


def _names_in(attributes: Attributes) -> frozenset[str]:
    """The attributes that a service says are business ids: a list of names, or one with commas."""
    found = attributes.get(IDS)
    if isinstance(found, str):
        found = [name.strip() for name in found.split(",")]
    if not isinstance(found, list):
        return frozenset()
    return frozenset(name for name in found[:_MAX_IDS] if isinstance(name, str))


def _is_business_id(name: str, value: Value, known: frozenset[str]) -> bool:
    if not isinstance(value, str | int) or isinstance(value, bool):
        return False
    if name in known:
        return True
    return _is_id_name(name)


_names: dict[str, bool] = {}


def _is_id_name(name: str) -> bool:
    known = _names.get(name)
    if known is None:
        known = _ID_NAME.fullmatch(name) is not None and _MACHINERY.match(name) is None
        # Attribute names are few; where they are not, they are not worth remembering.
        if len(_names) < 10_000 and len(name) < 256:
            _names[name] = known
    return known
