"""Request bodies as span events, for audits: redacted by name, bounded, and off by default.

Only what the application, or the search for ids, has read to the end is captured: nothing is read
from the client for this, and no reader's position moves. Contents are shown where they can be
redacted, which is JSON and forms that parse; of anything else only the size and the type.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import msgspec
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

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
_MAX_PARTS = 1000
_MAX_TYPE = 100
_FORM = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")
_OPENING = ("{", "[")


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
        mimetype = content_type.partition(";")[0].strip().lower()[:_MAX_TYPE]
        attributes: dict[str, Any] = {}
        if size is not None:
            attributes[SIZE] = size
        if mimetype.isprintable() and mimetype:
            attributes[TYPE] = (mimetype,)
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
        mimetype = content_type.partition(";")[0].strip().lower()
        try:
            if mimetype == "application/json" or mimetype.endswith("+json"):
                return self._json(data)
            if mimetype == "application/x-www-form-urlencoded":
                return self._form(data.decode("ascii"))
            if mimetype == "multipart/form-data":
                return self._multipart(data, content_type)
        except (ValueError, RecursionError, msgspec.DecodeError):
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
            if not equals:
                pairs.append(REDACTED if name else "")
            elif unquote_plus(value).lstrip().startswith(_OPENING):
                pairs.append(f"{name}={REDACTED}")
            else:
                pairs.append(pair)
        return "&".join(pairs)

    def _multipart(self, data: bytes, content_type: str) -> str | None:
        boundary = parse_options_header(content_type)[1].get("boundary", "").encode("ascii")
        decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
        decoder.receive_data(data)
        decoder.receive_data(None)
        parts: list[tuple[str, Any]] = []
        content = b""
        while not isinstance(event := decoder.next_event(), Epilogue | NeedData):
            if isinstance(event, Field):
                parts.append((event.name, ""))
                content = b""
            elif isinstance(event, File):
                parts.append((event.name, {"filename": event.filename, "size": 0}))
            elif isinstance(event, Data):
                name, value = parts[-1]
                if isinstance(value, dict):
                    value["size"] += len(event.data)
                else:
                    content += event.data
                    parts[-1] = (name, content.decode(errors="replace"))
        if isinstance(event, NeedData):
            return None
        fields: dict[str, Any] = {}
        for name, value in parts:
            if name in fields:
                fields[name] = [*_listed(fields[name]), value]
            else:
                fields[name] = value
        return self._render(fields)

    def _render(self, document: Any) -> str:
        text = _Text(self._limit)
        with suppress(_Full):
            self._write(document, text, 0)
        return "".join(text.parts)

    def _write(self, value: Any, text: _Text, depth: int) -> None:
        """Add `value` as JSON, without its secrets."""
        if depth > _DEEPEST:
            text.add(f'"{REDACTED}"')
        elif isinstance(value, dict):
            text.add("{")
            for number, (name, inner) in enumerate(value.items()):
                text.add(("," if number else "") + text.quote(name) + ":")
                self._write(REDACTED if self._redactor.is_secret(name) else inner, text, depth + 1)
            text.add("}")
        elif isinstance(value, list):
            text.add("[")
            for number, inner in enumerate(value):
                text.add("," if number else "")
                self._write(inner, text, depth + 1)
            text.add("]")
        elif isinstance(value, str):
            text.add(text.quote(self._string(value, text.room, depth)))
        else:
            text.add(json.dumps(value))

    def _string(self, value: str, room: int, depth: int) -> str:
        """A string, which may itself be JSON with names and secrets of its own."""
        if not value.lstrip().startswith(_OPENING):
            return value
        try:
            document = msgspec.json.decode(value)
        except (ValueError, msgspec.DecodeError):
            return REDACTED
        inner = _Text(room)
        with suppress(_Full):
            self._write(document, inner, depth + 1)
        return "".join(inner.parts)


class _Full(Exception):
    """There is enough to cut from."""


class _Text:
    """A text that grows to `room` characters and a little more.

    :raises _Full: when it did.
    """

    def __init__(self, room: int) -> None:
        self.parts: list[str] = []
        self.room = room

    def add(self, text: str) -> None:
        self.parts.append(text)
        self.room -= len(text)
        if self.room < 0:
            raise _Full

    def quote(self, text: str) -> str:
        return json.dumps(text[: self.room + 1], ensure_ascii=False)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _cut(text: str, limit: int) -> str:
    encoded = text.encode(errors="replace")
    return text if len(encoded) <= limit else encoded[:limit].decode(errors="ignore")
