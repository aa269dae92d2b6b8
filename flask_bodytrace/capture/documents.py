"""Bodies as text without their secrets, by media type: JSON, forms, text. Pure, no I/O."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple
from urllib.parse import quote_plus, unquote_plus

import msgspec
from werkzeug.http import parse_options_header

from flask_bodytrace.body.media_type import is_json, media_type
from flask_bodytrace.body.multipart import Malformed, parts_of

from .copying import NOT_JSON, Copier, has_each_name_once, is_harmless
from .redactor import NAMED, NAMING, OPENING, REDACTED, SECRET, Redactor
from .rules import Rules
from .text import LOOK_AHEAD

_FORM = "application/x-www-form-urlencoded"
_JSON_LINES = frozenset(
    {"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"}
)
# Nothing tells which columns of a table are secret.
_NOT_SHOWN = frozenset({"text/csv", "text/tab-separated-values"})
_TEXTS = frozenset(
    {"application/xml", "application/yaml", "application/x-yaml", "application/graphql"}
)

_parse = msgspec.json.Decoder().decode

# What clients percent-encode in forms shows that a body under their type is something else.
_FORM_CHARACTERS = re.compile(r"[!$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]+")


class Shown(NamedTuple):
    """What is shown of a body."""

    text: str
    is_cut: bool
    """Whether the body has more than is shown."""
    is_parsed: bool
    """Whether it is what its media type says; else secrets were found by their form only."""


class BodyCapture:
    """Makes text of bodies, without their secrets.

    :param limit: bytes; longer text is cut, after redaction.
    :param redactor: knows what is secret.
    :param rules: the application's own, by path.
    """

    def __init__(self, limit: int, redactor: Redactor, rules: Rules | None = None) -> None:
        self._limit = limit
        self._redactor = redactor
        self._rules = rules or None

    def content(self, data: bytes, content_type: str, *, where: str = "request") -> str | None:
        """`data` as text without its secrets, at most the limit long.

        :returns: None if it is no text.
        """
        shown = self.shown(data, content_type, where=where)
        return None if shown is None else shown.text

    def shown(
        self, data: bytes, content_type: str, *, where: str = "request", is_whole: bool = True
    ) -> Shown | None:
        """What may be shown of `data`.

        :param where: ``request`` or ``response``, for the application's rules.
        :param is_whole: whether it is all of a body, and not its beginning.
        :returns: None if it is neither JSON, nor a form, nor text.
        """
        kind = media_type(content_type)
        if is_whole:
            try:
                parsed = self._parsed(data, kind, where)
                if parsed is not None:
                    text, is_cut = parsed
                    return self._cut(text, is_parsed=True, is_cut=is_cut)
            except NOT_JSON:
                pass
        if kind == "multipart/form-data":
            return self._multipart(data, content_type, where)
        if kind in _JSON_LINES:
            return self._lines(data, where, is_whole=is_whole)
        if _is_text(kind):
            return self._unparsed(data, content_type, where, is_whole=is_whole)
        return None

    def _parsed(self, data: bytes, kind: str, where: str) -> tuple[str, bool] | None:
        """`data` as its media type has it, and whether its end is left out.

        None or an exception if it does not parse.
        """
        if is_json(kind):
            return self._json(data, where)
        if kind == _FORM:
            text = data.decode("ascii")
            if _FORM_CHARACTERS.fullmatch(text):
                return self._form(text, where), False
            # The type that curl gives to everything.
            return self._json(data, where) if text.lstrip().startswith("{") else None
        return None

    def _json(self, data: bytes, where: str) -> tuple[str, bool]:
        text = _decoded(data)
        try:
            document = _parse(text)
        except msgspec.DecodeError:
            # Python's parser, and so Flask's, also takes NaN and halves of surrogate pairs.
            document = json.loads(text)
        if isinstance(document, str):
            # No name tells whether it is a secret.
            return f'"{REDACTED}"', False
        if self._rules is not None:
            return self._copied(self._rules.apply(document, where), is_marked=True)
        # Quotes in strings are escaped, so they show by the backslash.
        is_marked = "\\" in text or "=" in text or "<" in text or "%" in text
        # Copying stops at the limit, so it is the quicker way for long documents.
        if len(text) <= self._limit and is_harmless(
            document, text, self._redactor, is_marked=is_marked
        ):
            return text, False
        sent = text if has_each_name_once(document, text) else None
        return self._copied(document, is_marked=is_marked, sent=sent)

    def _copied(
        self, document: Any, *, is_marked: bool, sent: str | None = None
    ) -> tuple[str, bool]:
        """A copy of `document` as JSON, or as it was sent if nothing of it is hidden."""
        copier = Copier(self._redactor, self._limit, is_marked=is_marked)
        shown = copier.copy(document)
        if sent is not None and shown == document:
            return sent, False
        try:
            text = msgspec.json.encode(shown).decode()
        except UnicodeEncodeError:  # half of a surrogate pair
            text = json.dumps(shown, ensure_ascii=False, separators=(",", ":"))
        return text, copier.is_cut

    def _form(self, text: str, where: str) -> str:
        redactor = self._redactor
        pairs = [pair.partition("=") for pair in text.split("&")]
        kinds = [redactor.kind(unquote_plus(name)) for name, _, _ in pairs]
        is_named = NAMING in kinds and any(
            kind == NAMING and redactor.is_secret(unquote_plus(value))
            for kind, (_, _, value) in zip(kinds, pairs, strict=True)
        )
        shown = []
        for kind, (name, equals, value) in zip(kinds, pairs, strict=True):
            if not equals or (len(pairs) == 1 and not value.strip("=")):
                # A word without a name may be a secret; Base64 may end with "=".
                shown.append(REDACTED if name else "")
            elif self._hides(unquote_plus(name)):
                shown.append(f"{REDACTED}={REDACTED}")
            elif kind == SECRET or (kind == NAMED and is_named) or self._hides(unquote_plus(value)):
                shown.append(f"{name}={REDACTED}")
            else:
                shown.append(f"{name}={self._by_rules(name, value, where)}")
        return "&".join(shown)

    def _by_rules(self, name: str, value: str, where: str) -> str:
        """A form's value as far as the application's rules show it."""
        if self._rules is None:
            return value
        name, plain = unquote_plus(name), unquote_plus(value)
        shown = self._rules.apply({name: plain}, where)[name]
        if shown == plain:
            return value
        # What a function returned may hold another secret.
        text = str(shown)
        return REDACTED if self._hides(text) else quote_plus(text, errors="replace")

    def _hides(self, value: str) -> bool:
        """Whether anything in a form's value is to be hidden."""
        if value.lstrip().startswith(OPENING):
            try:
                document = msgspec.json.decode(value)
            except NOT_JSON:
                return self._redactor.unparsed(value) != value
            return not is_harmless(document, value, self._redactor, is_marked=True)
        return self._redactor.text(value) != value

    def _multipart(self, data: bytes, content_type: str, where: str) -> Shown | None:
        """The fields as JSON, up to where the body makes no sense; of files name and size."""
        fields: dict[str, Any] = {}
        is_parsed = True
        try:
            for part in parts_of(data, content_type):
                name = part.name or ""
                value: Any = part.data.decode(errors="replace")
                if part.name is None:
                    # A word without a name may be a secret.
                    value = REDACTED
                if part.filename is not None:
                    value = {"filename": part.filename, "size": len(part.data)}
                if name in fields:
                    value = [*_listed(fields[name]), value]
                fields[name] = value
        except Malformed:
            is_parsed = False
        if not fields:
            return None
        document = fields if self._rules is None else self._rules.apply(fields, where)
        text, is_cut = self._copied(document, is_marked=True)
        return self._cut(text, is_parsed=is_parsed, is_cut=is_cut)

    def _lines(self, data: bytes, where: str, *, is_whole: bool) -> Shown:
        """JSON documents, one on each line."""
        beginning = data[: self._limit + LOOK_AHEAD]
        is_parsed = True
        shown = []
        for line in beginning.split(b"\n"):
            try:
                shown.append(self._json(line, where)[0] if line.strip() else "")
            except NOT_JSON:
                is_parsed = False
                shown.append(self._text(line.decode(errors="replace"), where) or REDACTED)
        text = "\n".join(shown)
        if len(beginning) == len(data) and is_whole:
            return self._cut(text, is_parsed=is_parsed)
        return self._cut(text[:-LOOK_AHEAD], is_parsed=is_parsed, is_cut=True)

    def _text(self, text: str, where: str) -> str | None:
        """Text as far as it is shown; None if it is not."""
        if self._rules is not None:
            shown = self._rules.text(text, where)
            if shown is None:
                return None
            text = shown
        return self._redactor.unparsed(text)

    def _unparsed(
        self, data: bytes, content_type: str, where: str, *, is_whole: bool
    ) -> Shown | None:
        charset = parse_options_header(content_type)[1].get("charset", "")
        if is_json(media_type(content_type)):
            charset = json.detect_encoding(data)
        # Four bytes at most for each character.
        beginning = data[: 4 * (self._limit + LOOK_AHEAD)]
        try:
            text = beginning.decode(charset or "utf-8", errors="replace")
        except (LookupError, ValueError):
            # There is no such charset; or there is, and it takes no errors, or is none of text's.
            text = beginning.decode(errors="replace")
        if "\0" in text:
            return None
        is_cut = not is_whole or len(beginning) < len(data)
        if len(text) > self._limit + LOOK_AHEAD:
            text, is_cut = text[: self._limit + LOOK_AHEAD], True
        shown = self._text(text, where)
        if shown is None:
            return None
        if is_cut:
            # A secret that begins here and goes on beyond is not seen to be one.
            shown = shown[:-LOOK_AHEAD]
        return self._cut(shown, is_parsed=False, is_cut=is_cut)

    def _cut(self, text: str, *, is_parsed: bool, is_cut: bool = False) -> Shown:
        if len(text) <= self._limit and text.isascii():
            return Shown(text, is_cut, is_parsed)
        encoded = text.encode(errors="replace")
        if len(encoded) <= self._limit:
            return Shown(encoded.decode(), is_cut, is_parsed)
        return Shown(encoded[: self._limit].decode(errors="ignore"), True, is_parsed)


def _decoded(data: bytes) -> str:
    # Whatever is not UTF-8 has a zero or a byte order mark at its beginning (RFC 4627, 3).
    if b"\0" in data[:4] or data[:1] >= b"\xef":
        return data.decode(json.detect_encoding(data)).removeprefix("\ufeff")
    return data.decode()


def _is_text(kind: str) -> bool:
    return kind not in _NOT_SHOWN and (
        kind.startswith("text/")
        or is_json(kind)
        or kind == _FORM
        or kind in _TEXTS
        or kind.endswith(("+xml", "+yaml"))
    )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
