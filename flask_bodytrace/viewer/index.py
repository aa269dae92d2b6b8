"""What of a trace can be searched: every name, attribute, event and log record, as one text.

A trace's entries are ``name=value`` in lower case, each once, between separators, in UTF-8. So the
search for a whole value, for its beginning, for a name or for any part of any of them is one search
for bytes within bytes, which takes a few milliseconds for a full store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from msgspec import Struct

from . import display
from .model import KINDS, Attributes, LogRecord, Span

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
    # The first search after a burst comes by here for every attribute in the store. Most texts are
    # the same in many spans of a trace: so each is written once.
    texts: defaultdict[str, set[str]] = defaultdict(set)
    names, services, scopes = texts["name"], texts["service"], texts["scope"]
    resources: dict[int, Attributes] = {}
    for span in spans:
        names.add(span.name)
        services.add(span.service)
        scopes.add(span.scope)
        found[_KIND_ENTRIES[span.kind]] = found[_STATUS_ENTRIES[span.status]] = None
        attributes: Mapping[str, Any] = span.attributes
        for name, value in attributes.items():
            kind = type(value)
            if kind is str:
                texts[name].add(value)
            elif kind is int:
                found[f"{name}={value}"] = None
            else:
                _add_value(found, name, value)
        resources[id(span.resource)] = span.resource
        if span.events or span.links or span.status_message:
            _add_rare(found, span)
    for resource in resources.values():
        _add(found, resource)
    for name, values in texts.items():
        for value in values:
            _add_text(found, name, value)
    for log in logs:
        _add_log(found, log)
    ids = [spans[0].trace_id, *[span.span_id for span in spans]] if spans else []
    return Index(_joined(found), " ".join(ids).encode())


def _add_rare(found: dict[str, None], span: Span) -> None:
    """What few spans have."""
    if span.status_message:
        _add_text(found, "message", span.status_message)
    for event in span.events:
        found[f"event={event.name}"] = None
        if event.name == "exception":
            _add_text(found, "exception", display.text(event.attributes.get("exception.type")))
        _add(found, event.attributes)
    for link in span.links:
        _add(found, link.attributes)


def _add_log(found: dict[str, None], log: LogRecord) -> None:
    found[f"log={display.text(log.body)[:_MAX_TEXT]}"] = None
    if log.scope:
        found[f"logger={log.scope[:_MAX_TEXT]}"] = None
    _add(found, log.attributes)


def _add(found: dict[str, None], attributes: Mapping[str, Any]) -> None:
    for name, value in attributes.items():
        if isinstance(value, str):
            _add_text(found, name, value)
        else:
            _add_value(found, name, value)


def _add_text(found: dict[str, None], name: str, value: str) -> None:
    text = value if len(value) <= _MAX_TEXT else value[:_MAX_TEXT]
    found[f"{name}={text}"] = None
    if name in _PATHS:
        found[f"path={text}"] = None


def _add_value(found: dict[str, None], name: str, value: Any) -> None:
    if isinstance(value, list | tuple):
        # Each of several, and all of them as they are shown.
        for one in value[:100]:
            found[f"{name}={display.text(one)[:_MAX_TEXT]}"] = None
    else:
        found[f"{name}={display.text(value)[:_MAX_TEXT]}"] = None


def _joined(entries: Collection[str]) -> bytes:
    text = _END.join(("", *entries, ""))
    if text.count(_END) > len(entries) + 1:
        # One that holds the separator itself would look like two.
        text = _END.join(("", *(entry.replace(_END, " ") for entry in entries), ""))
    return text.lower().encode(errors="replace")


def needle(text: str, *, begins: bool = False, ends: bool = False) -> bytes:
    """What is looked for in `Index.text`.

    :param begins: whether an entry has to begin with it.
    :param ends: whether an entry has to end with it.
    """
    plain = text.replace(_END, " ").lower()
    return f"{_END if begins else ''}{plain}{_END if ends else ''}".encode(errors="replace")
