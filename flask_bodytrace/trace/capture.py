"""Request bodies as span events, for audits: redacted by name, bounded, and off by default.

Only what the application, or the search for ids, has read to the end is captured: nothing is read
from the client for this, and no reader's position moves. Contents are shown where they can be
redacted, which is JSON and forms that parse; of anything else only the size and the type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import msgspec

from flask_bodytrace.body.media_type import is_json, media_type
from flask_bodytrace.body.multipart import parts_of

from .redact import REDACTED, Redactor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment
    from opentelemetry.trace import Span

    from flask_bodytrace.body.cached import CachedBody


EVENT = "http.request.body"
CONTENT = "http.request.body.content"
SIZE = "http.request.body.size"
TYPE = "http.request.header.content-type"
TRUNCATED = "bodytrace.body.truncated"

_LARGEST = 1 << 20
"""Bytes; redaction needs the whole body parsed, so of larger ones only size and type are said."""

_DEEPEST = 64
_MAX_TYPE = 100
_FORM = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
_OPENING = ("{", "[", '"')
_SMALLEST_CARD = 10**12
_LARGEST_TEXT = 1 << 20
_MARGIN = 64
"""Characters beyond the limit that are looked at, so that no secret is cut into another form."""


class BodyCapture:
    """Adds a request's body to its span.

    :param always: whether to do so for every request, or only for failed ones: answered with 5xx,
        or an exception on the way whatever answered for it.
    :param limit: longer contents are cut to this many bytes, after redaction.
    :param redactor: knows the names whose values are hidden, however deep.
    """

    def __init__(self, limit: int, redactor: Redactor, *, always: bool) -> None:
        self._limit = limit
        self._redactor = redactor
        self._always = always

    def wants(self, *, failed: bool) -> bool:
        """Whether the body of a request that `failed`, or did not, is to be added."""
        return self._always or failed

    def record(self, span: Span, body: CachedBody, environ: WSGIEnvironment) -> None:
        """Add the event, if there is a body."""
        size = body.size
        if size == 0:
            return
        content_type: str = environ.get("CONTENT_TYPE", "")
        kind = media_type(content_type)[:_MAX_TYPE]
        attributes: dict[str, Any] = {}
        if size is not None:
            attributes[SIZE] = size
        if kind.isprintable() and kind:
            attributes[TYPE] = (kind,)
        if (
            body.complete
            and size is not None
            and size <= _LARGEST
            and not environ.get("HTTP_CONTENT_ENCODING")
        ):
            content = self.content(body.peek_at(0, size), content_type)
            if content is not None:
                shown = _cut(content, self._limit)
                attributes[CONTENT] = shown
                if shown != content:
                    attributes[TRUNCATED] = True
        span.add_event(EVENT, attributes)

    def content(self, data: bytes, content_type: str) -> str | None:
        """`data` as text without its secrets, not much longer than the limit.

        :returns: None if it is neither JSON nor a form, or does not parse as what it says it is.
        """
        kind = media_type(content_type)
        try:
            if is_json(kind):
                return self._json(data)
            if kind == "application/x-www-form-urlencoded":
                return self._form(data.decode("ascii"))
            if kind == "multipart/form-data":
                return self._multipart(data, content_type)
        except (ValueError, RecursionError, msgspec.MsgspecError):
            return None
        return None

    def _json(self, data: bytes) -> str | None:
        document = msgspec.json.decode(data.removeprefix(b"\xef\xbb\xbf"))
        if not isinstance(document, dict | list):
            # No names, so nothing tells whether it is a secret.
            return None
        return self._render(document)

    def _form(self, text: str) -> str | None:
        # What some clients send under the type of forms is JSON: it shows by characters that
        # forms percent-encode.
        if not _FORM.fullmatch(text):
            return None
        pairs = []
        for pair in self._redactor.query(text).split("&"):
            name, equals, value = pair.partition("=")
            plain = unquote_plus(value)
            if not equals:
                pairs.append(REDACTED if name else "")
            elif plain.lstrip().startswith(_OPENING) or self._redactor.text(plain) != plain:
                pairs.append(f"{name}={REDACTED}")
            else:
                pairs.append(pair)
        return "&".join(pairs)

    def _multipart(self, data: bytes, content_type: str) -> str | None:
        fields: dict[str, Any] = {}
        for part in parts_of(data, content_type):
            name = part.name or ""
            value: Any = part.data.decode(errors="replace")
            if part.filename is not None:
                value = {"filename": part.filename, "size": len(part.data)}
            if name in fields:
                value = [*_listed(fields[name]), value]
            fields[name] = value
        return self._render(fields)

    def _render(self, document: Any) -> str:
        shown = self._without_secrets(document, _Room(self._limit), 0)
        return msgspec.json.encode(shown).decode()

    def _without_secrets(  # noqa: C901 - one line for each type
        self, value: Any, room: _Room, depth: int
    ) -> Any:
        """A copy of `value` without its secrets, up to where there is enough to cut from."""
        if depth > _DEEPEST:
            return REDACTED
        kind = type(value)
        if kind is str:
            return self._string(value, room, depth)
        if kind is dict:
            redactor = self._redactor
            shown: dict[str, Any] = {}
            named = redactor.names_secret(value)
            for name, inner in value.items():
                if room.left < 0:
                    break
                room.left -= len(name) + len('"":,')
                if redactor.is_secret(name) or (named and name == "value"):
                    room.left -= len(REDACTED)
                    shown[name] = REDACTED
                else:
                    shown[name] = self._without_secrets(inner, room, depth + 1)
            return shown
        if kind is list:
            items = []
            for inner in value:
                if room.left < 0:
                    break
                room.left -= 1
                items.append(self._without_secrets(inner, room, depth + 1))
            return items
        room.left -= 1
        if kind is int and value >= _SMALLEST_CARD:
            return REDACTED if self._redactor.text(str(value)) == REDACTED else value
        return value

    def _string(self, value: str, room: _Room, depth: int) -> str:
        """A string, which may itself be JSON with names and secrets of its own."""
        # One character more than is shown, so that it is seen to be cut.
        value = value[: max(room.left, 0) + 1] if len(value) > _LARGEST_TEXT else value
        if value.lstrip().startswith(_OPENING):
            try:
                document = msgspec.json.decode(value)
            except (ValueError, msgspec.DecodeError):
                room.left -= len(REDACTED)
                return REDACTED if value.lstrip()[:1] != '"' else self._plain(value, room)
            inner = self._without_secrets(document, room, depth + 1)
            return msgspec.json.encode(inner).decode()
        return self._plain(value, room)

    def _plain(self, value: str, room: _Room) -> str:
        shown = self._redactor.text(value[: max(room.left, 0) + _MARGIN])
        room.left -= len(shown)
        return shown


class _Room:
    """Characters that may still be shown."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _cut(text: str, limit: int) -> str:
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")
