"""Business ids: rules compiled once, then pure (bytes, content type) -> dict.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; the first that yields wins. Extraction never raises, and decodes nothing that no
rule names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import msgspec
from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from .exceptions import ConfigError

MAX_LENGTH = 256
"""Longer values are cut to this many characters."""

Rules = Mapping[str, Sequence[str]]
"""Attribute name -> sources, in the order they are tried."""

_Scalar = str | int | float | bool | None
_MAX_PARTS = 1000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")


def parse_rules(text: str) -> dict[str, list[str]]:
    """``"orderId,user.id=customer.id"`` as rules; one attribute may be named more than once.

    :raises ConfigError: an empty or malformed item, saying which.
    """
    rules: dict[str, list[str]] = {}
    for item in filter(None, (part.strip() for part in text.split(","))):
        attribute, equals, source = (part.strip() for part in item.partition("="))
        if equals and not (attribute and source):
            raise ConfigError(f"{item!r} needs a name on both sides of '='")
        source = source or attribute
        rules.setdefault(attribute if equals else source.rpartition(":")[2], []).append(source)
    return rules


def check_rules(rules: Rules) -> None:
    """Refuse rules that could never work.

    :raises ConfigError: a bad attribute name or an unknown kind of source, saying which.
    """
    for attribute, sources in rules.items():
        if not _NAME.fullmatch(attribute):
            raise ConfigError(f"{attribute!r} is no attribute name (letters, digits, '_', '.')")
        for source in sources:
            kind, colon, name = source.partition(":")
            if colon and kind not in {"path", "query", "header"}:
                raise ConfigError(
                    f"{source!r} has an unknown kind {kind!r}: use path:, query:, header: or a "
                    "plain body path"
                )
            if not (name if colon else source) or ".." in source:
                raise ConfigError(f"{source!r} names nothing")


@dataclass(frozen=True, slots=True)
class IdExtractor:
    """What `compile_rules` makes: the rules, sorted by where they look.

    `fallbacks` says for an attribute which sources come before the body in its rule.
    """

    attributes: tuple[str, ...]
    body: Mapping[str, tuple[str, ...]]
    elsewhere: Mapping[str, tuple[tuple[str, str], ...]]
    order: Mapping[str, tuple[str, ...]]
    hashed: frozenset[str]
    key: bytes
    from_json: Callable[[bytes], dict[str, str]] = field(repr=False)
    form_pattern: re.Pattern[bytes] | None = field(repr=False)

    @property
    def reads_path(self) -> bool:
        """Whether any source is a ``path:`` one, known only once the URL is matched."""
        return any(kind == "path" for s in self.elsewhere.values() for kind, _ in s)

    def from_body(self, data: bytes, content_type: str) -> dict[str, str]:
        """The ids in a body, by source path.

        :param data: the whole raw body.
        :param content_type: the Content-Type header; other than JSON, ``+json``, urlencoded and
            multipart forms hold no ids.
        """
        mimetype = content_type.partition(";")[0].strip().lower()
        try:
            if mimetype == "application/json" or mimetype.endswith("+json"):
                return self.from_json(data)
            if mimetype == "application/x-www-form-urlencoded":
                return self._from_urlencoded(data)
            if mimetype == "multipart/form-data":
                return self._from_multipart(data, content_type)
        except Exception:  # noqa: BLE001 - whatever is wrong with a body, it has no ids
            return {}
        return {}

    def holds_ids(self, content_type: str) -> bool:
        """Whether a body of this type is worth reading for ids."""
        mimetype = content_type.partition(";")[0].strip().lower()
        return (
            mimetype == "application/json"
            or mimetype.endswith("+json")
            or mimetype in {"application/x-www-form-urlencoded", "multipart/form-data"}
        )

    def choose(
        self, found: Mapping[str, str], lookup: Callable[[str, str], object]
    ) -> dict[str, str]:
        """The ids by attribute: for each the first source that yields.

        :param found: what `from_body` gave.
        :param lookup: (kind, name) -> value or None for path, query and header sources.
        """
        ids: dict[str, str] = {}
        for attribute, sources in self.order.items():
            for source in sources:
                kind, colon, name = source.partition(":")
                value = clean(lookup(kind, name)) if colon else found.get(source)
                if value is not None:
                    if attribute in self.hashed:
                        value = self.hash(value)
                    ids[attribute] = value
                    break
        return ids

    def hash(self, value: str) -> str:
        """A keyed 128-bit BLAKE2b of `value`, in hex."""
        return keyed_hash(value, self.key).hex()

    def _from_urlencoded(self, data: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        if self.form_pattern is not None:
            for match in self.form_pattern.finditer(data):
                name = unquote_plus(match[1].decode("ascii"))
                if name not in found:
                    value = clean(unquote_plus(match[2][: MAX_LENGTH * 12].decode("ascii")))
                    if value is not None:
                        found[name] = value
        return found

    def _from_multipart(self, data: bytes, content_type: str) -> dict[str, str]:
        boundary = parse_options_header(content_type)[1].get("boundary", "").encode("ascii")
        if not boundary:
            return {}
        found: dict[str, str] = {}
        decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
        decoder.receive_data(data)
        decoder.receive_data(None)
        wanted: str | None = None
        while len(found) < len(self.body):
            event = decoder.next_event()
            if isinstance(event, Epilogue | NeedData):
                break
            if isinstance(event, Field):
                wanted = event.name if event.name in self.body and event.name not in found else None
            elif isinstance(event, File):
                wanted = None
            elif isinstance(event, Data) and wanted is not None:
                value = clean(event.data[: MAX_LENGTH * 4].decode(errors="ignore"))
                if value is not None:
                    found[wanted] = value
                wanted = None
        return found


def compile_rules(rules: Rules, *, hashed: Sequence[str] = (), key: str = "") -> IdExtractor:
    """Compile `rules` once, at start-up.

    :param hashed: attributes whose values are stored as `keyed_hash`.
    :param key: the secret of that hash.
    :raises ConfigError: as `check_rules`.
    """
    check_rules(rules)
    paths: dict[str, tuple[str, ...]] = {}
    elsewhere: dict[str, tuple[tuple[str, str], ...]] = {}
    for attribute, sources in rules.items():
        split = [source.partition(":") for source in sources]
        paths.update({kind: tuple(kind.split(".")) for kind, colon, _ in split if not colon})
        elsewhere[attribute] = tuple((kind, name) for kind, colon, name in split if colon)
    names = sorted({form for path in paths for form in (path, quote_plus(path))})
    pattern = b"|".join(re.escape(name.encode()) for name in names)
    return IdExtractor(
        attributes=tuple(rules),
        body=paths,
        elsewhere=elsewhere,
        order={attribute: tuple(sources) for attribute, sources in rules.items()},
        hashed=frozenset(hashed),
        key=key.encode(),
        from_json=_json_scanner(paths),
        form_pattern=re.compile(b"(?:^|&)(" + pattern + b")=([^&]*)") if paths else None,
    )


def keyed_hash(value: str, key: bytes) -> bytes:
    """16 bytes of keyed BLAKE2b (RFC 7693) over UTF-8; `key` of any length."""
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        key = hashlib.blake2b(key).digest()
    return hashlib.blake2b(value.encode(), digest_size=16, key=key, person=b"bodytrace").digest()


def clean(value: object) -> str | None:
    """A scalar as an id: printable, without surrounding space, cut; None if nothing is left."""
    if value is None or isinstance(value, bool):
        return None
    text = (value if isinstance(value, str) else str(value))[: MAX_LENGTH * 2].strip()
    if not text.isprintable():
        return None
    return text[:MAX_LENGTH] or None


# JSON: structs built from the paths, so that msgspec skips everything else without decoding it.


class _Node:
    """One step on the way to the wanted values: an object's field or an array's index."""

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.path: str | None = None

    def is_plain(self) -> bool:
        """Whether objects alone lead to every value, each of which ends its path."""
        return all(
            not name.isdigit() and (child.path is None or not child.children) and child.is_plain()
            for name, child in self.children.items()
        )

    def struct(self) -> type[msgspec.Struct]:
        """What decodes the values directly, or fails where one is of another type."""
        fields = [
            (f"f{number}", _Scalar if child.path else child.struct() | None, _named(name, None))
            for number, (name, child) in enumerate(self.children.items())
        ]
        return msgspec.defstruct("Ids", fields, gc=False)

    def values(self, document: Any, found: dict[str, str]) -> None:
        """Collect from what `struct` decoded."""
        for number, child in enumerate(self.children.values()):
            value = getattr(document, f"f{number}")
            if value is None:
                continue
            if child.path is None:
                child.values(value, found)
            elif (text := clean(value)) is not None:
                found[child.path] = text

    def prepare(self) -> None:
        """Build the decoder of `scan`, here and below."""
        fields = [
            (f"f{number}", msgspec.Raw | msgspec.UnsetType, _named(name, msgspec.UNSET))
            for number, name in enumerate(self.children)
        ]
        self.level = msgspec.json.Decoder(msgspec.defstruct("Level", fields, gc=False))
        for child in self.children.values():
            child.prepare()

    def scan(self, data: bytes | msgspec.Raw, found: dict[str, str]) -> None:
        """Go down level by level; a value of an unexpected type ends its own path only."""
        if self.path is not None:
            try:
                text = clean(_scalar.decode(data))
            except msgspec.ValidationError:
                text = None
            if text is not None:
                found[self.path] = text
        if not self.children:
            return
        try:
            level = self.level.decode(data)
        except msgspec.ValidationError:
            self._scan_array(data, found)
            return
        for number, child in enumerate(self.children.values()):
            value = getattr(level, f"f{number}")
            if value is not msgspec.UNSET:
                child.scan(value, found)

    def _scan_array(self, data: bytes | msgspec.Raw, found: dict[str, str]) -> None:
        indices = {int(name): child for name, child in self.children.items() if name.isdigit()}
        if not indices:
            return
        try:
            items = _array.decode(data)
        except msgspec.ValidationError:
            return
        for index, child in indices.items():
            if index < len(items):
                child.scan(items[index], found)


_scalar: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Scalar)
_array = msgspec.json.Decoder(list[msgspec.Raw])


def _named(name: str, default: Any) -> Any:
    return msgspec.field(name=name, default=default)


def _json_scanner(paths: Mapping[str, tuple[str, ...]]) -> Callable[[bytes], dict[str, str]]:
    root = _Node()
    for path, parts in paths.items():
        node = root
        for part in parts:
            node = node.children.setdefault(part, _Node())
        node.path = path
    root.prepare()
    # Wrong types are rare: one strict decode for the common case, and only then the careful scan.
    strict = msgspec.json.Decoder(root.struct()) if root.is_plain() else None

    def scan(data: bytes) -> dict[str, str]:
        found: dict[str, str] = {}
        if data[:3] == b"\xef\xbb\xbf":
            data = data[3:]
        if strict is not None:
            try:
                root.values(strict.decode(data), found)
            except msgspec.ValidationError:
                found.clear()
            else:
                return found
        root.scan(data, found)
        return found

    return scan
