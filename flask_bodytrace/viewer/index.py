"""What of a trace can be searched: every name, attribute, event and log record, as one text.

A trace's entries are ``name=value`` in lower case, each once, between separators, in UTF-8. So the
search for a whole value, for its beginning, for a name or for any part of any of them is one search
for bytes within bytes, which takes a few milliseconds for a full store.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from . import display
from .model import KINDS, LogRecord, Span

_END = "\x1f"
_MAX_TEXT = 4096
"""Characters of one value that are searched: a body may be long, and is kept already."""
_PATHS = frozenset({"url.path", "http.route", "http.target", "url.full", "http.url"})
_KIND_ENTRIES = tuple(f"kind={kind}" for kind in KINDS)
_STATUS_ENTRIES = tuple(f"status={status}" for status in ("unset", "ok", "error"))


class Index(Struct, frozen=True, gc=False):
    """What is searched of a trace, or of one span.

    :param text: the entries, each between two separators.
    :param ids: its trace id and span ids, which only match what looks like an id.
    """

    text: bytes
    ids: bytes

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self.text) + len(self.ids) + 100


def index_of(spans: Sequence[Span], logs: Sequence[LogRecord]) -> Index:
    """Of the spans and log records of one trace."""
    found: dict[str, None] = {}
    resources: set[int] = set()
    service = scope = None
    for span in spans:
        found[f"name={span.name}"] = None
        found[_KIND_ENTRIES[span.kind]] = None
        found[_STATUS_ENTRIES[span.status]] = None
        if span.service != service:
            service = span.service
            found[f"service={service}"] = None
        if span.scope != scope:
            scope = span.scope
            found[f"scope={scope}"] = None
        if span.status_message:
            found[f"message={span.status_message[:_MAX_TEXT]}"] = None
        _add(found, span.attributes)
        if id(span.resource) not in resources:
            resources.add(id(span.resource))
            _add(found, span.resource)
        for event in span.events:
            found[f"event={event.name}"] = None
            if event.name == "exception":
                kind = event.attributes.get("exception.type")
                found[f"exception={display.text(kind)[:_MAX_TEXT]}"] = None
            _add(found, event.attributes)
        for link in span.links:
            _add(found, link.attributes)
    for log in logs:
        _add_log(found, log)
    ids = [spans[0].trace_id, *(span.span_id for span in spans)] if spans else []
    return Index(_joined(found), " ".join(ids).encode())


def _add_log(found: dict[str, None], log: LogRecord) -> None:
    found[f"log={display.text(log.body)[:_MAX_TEXT]}"] = None
    if log.scope:
        found[f"logger={log.scope[:_MAX_TEXT]}"] = None
    _add(found, log.attributes)


def _add(found: dict[str, None], attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        # The first search after a burst comes by here for every attribute in the store.
        kind = type(value)
        if kind is str:
            text = value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT]
            found[f"{name}={text}"] = None
            if name in _PATHS:
                found[f"path={text}"] = None
        elif kind is int:
            found[f"{name}={value}"] = None
        elif isinstance(value, list | tuple):
            # Each of several, and all of them as they are shown.
            for one in value[:100]:
                found[f"{name}={display.text(one)[:_MAX_TEXT]}"] = None
        else:
            found[f"{name}={display.text(value)[:_MAX_TEXT]}"] = None


def _joined(entries: Collection[str]) -> bytes:
    text = _END.join(entries)
    if text.count(_END) >= max(len(entries), 1):
        # One that holds the separator itself would look like two.
        text = _END.join(entry.replace(_END, " ") for entry in entries)
    return f"{_END}{text}{_END}".lower().encode(errors="replace")


def needle(text: str, *, begins: bool = False, ends: bool = False) -> bytes:
    """What is looked for in `Index.text`.

    :param begins: whether an entry has to begin with it.
    :param ends: whether an entry has to end with it.
    """
    plain = text.replace(_END, " ").lower()
    return f"{_END if begins else ''}{plain}{_END if ends else ''}".encode(errors="replace")
