"""Business ids: rules compiled once, then pure (bytes, content type) -> dict.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; the first that yields wins. Extraction never raises, and decodes nothing that no
rule names.
"""

from __future__ import annotations

import hashlib
import re
from codecs import getincrementaldecoder
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Annotated, Any, TypedDict
from urllib.parse import unquote_to_bytes
from uuid import UUID

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
_MAX_INDEX = 999
_MOST_BITS = MAX_LENGTH * 3
# What decoders put where bytes were no text.
_REPLACEMENT = "\ufffd"
_FORMS = {
    "application/json": "json",
    "application/x-www-form-urlencoded": "urlencoded",
    "multipart/form-data": "multipart",
}
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
            named = name if colon else source
            if not named or "" in source.split("."):
                raise ConfigError(f"{source!r} names nothing")
            if not named.isprintable() or {'"', "\\"} & set(named):
                raise ConfigError(f"{source!r} has characters no name of a field should have")


@dataclass(frozen=True, slots=True)
class IdExtractor:
    """What `compile_rules` makes: per attribute its sources, and what finds them.

    :param order: attribute -> sources, in the order they are tried.
    :param body: the body paths among them.
    :param reads_path: whether any source is a ``path:`` one, known only once the URL is matched.
    """

    order: Mapping[str, tuple[str, ...]]
    body: frozenset[str]
    reads_path: bool
    hashed: frozenset[str]
    from_json: Callable[[bytes], dict[str, str]] = field(repr=False)
    form_pattern: re.Pattern[bytes] | None = field(repr=False)
    query_pattern: re.Pattern[bytes] | None = field(repr=False)
    steps: tuple[tuple[str, tuple[tuple[str, str], ...], bool], ...] = field(repr=False)
    """Per attribute its sources as (kind, name), "" for the body, and whether it is hashed."""
    paths: tuple[tuple[str, str, bool], ...] | None = field(repr=False)
    """The same where each has one source, in the body; else None. The usual case, in few steps."""
    hash: Callable[[str], str] = field(repr=False)
    """A keyed 128-bit BLAKE2b of a value, in hex."""

    @property
    def attributes(self) -> Collection[str]:
        """The names of the ids."""
        return self.order.keys()

    def from_body(self, data: bytes, content_type: str) -> dict[str, str]:
        """The ids in a body, by source path.

        :param data: the whole raw body.
        :param content_type: the Content-Type header; other than JSON, ``+json``, urlencoded and
            multipart forms hold no ids.
        """
        form = _form_of(content_type)
        try:
            if form == "json":
                return self.from_json(data)
            if form == "urlencoded":
                return _from_pairs(self.form_pattern, data)
            if form == "multipart":
                return self._from_multipart(data, content_type)
        except Exception:  # noqa: BLE001 - whatever is wrong with a body, it has no ids
            return {}
        return {}

    def from_query(self, query: bytes) -> dict[str, str]:
        """The values of the ``query:`` sources, by name.

        :param query: the raw query string.
        """
        return _from_pairs(self.query_pattern, query)

    def holds_ids(self, content_type: str) -> bool:
        """Whether a body of this type is worth reading for ids."""
        return _form_of(content_type) is not None

    def choose(
        self, found: Mapping[str, str], lookup: Callable[[str, str], object]
    ) -> dict[str, str]:
        """The ids by attribute: for each the first source that yields.

        :param found: what `from_body` gave.
        :param lookup: (kind, name) -> value or None for path, query and header sources.
        """
        ids: dict[str, str] = {}
        for attribute, sources, hashed in self.steps:
            for kind, name in sources:
                value = clean(lookup(kind, name)) if kind else found.get(name)
                if value is not None:
                    if hashed:
                        value = self.hash(value)
                    ids[attribute] = value
                    break
        return ids

    def choose_found(self, found: Mapping[str, str]) -> dict[str, str]:
        """As `choose`, where `paths` says that the body is all there is to look at."""
        ids: dict[str, str] = {}
        for attribute, path, hashed in self.paths or ():
            value = found.get(path)
            if value is not None:
                ids[attribute] = self.hash(value) if hashed else value
        return ids

    def _from_multipart(self, data: bytes, content_type: str) -> dict[str, str]:
        boundary = parse_options_header(content_type)[1].get("boundary", "").encode("ascii")
        if not boundary:
            return {}
        found: dict[str, str] = {}
        missing = set(self.body)
        decoder = MultipartDecoder(boundary, max_parts=_MAX_PARTS)
        decoder.receive_data(data)
        decoder.receive_data(None)
        wanted: str | None = None
        while missing or wanted:
            event = decoder.next_event()
            if isinstance(event, Epilogue | NeedData):
                break
            if isinstance(event, Field):
                wanted = event.name if event.name in missing and _is_utf8(event) else None
                missing.discard(event.name)
            elif isinstance(event, File):
                wanted = None
            elif isinstance(event, Data) and wanted is not None:
                value = _text(event.data)
                if value is not None:
                    found[wanted] = value
                wanted = None
        return found


def _from_pairs(pattern: re.Pattern[bytes] | None, data: bytes) -> dict[str, str]:
    """The wanted pairs of an urlencoded string; of a doubled name the first, as in Werkzeug."""
    values: dict[str, str | None] = {}
    if pattern is not None:
        for match in pattern.finditer(data):
            name = unquote_to_bytes(match[1].replace(b"+", b" ")).decode()
            if name not in values:
                raw = (match[2] or b"")[: MAX_LENGTH * 12]
                values[name] = _text(unquote_to_bytes(raw.replace(b"+", b" ")))
    return {name: value for name, value in values.items() if value is not None}


def _is_utf8(event: Field) -> bool:
    options = parse_options_header(event.headers.get("content-type"))[1]
    return options.get("charset", "utf-8").lower() in {"utf-8", "us-ascii", "ascii"}


def _text(value: bytes) -> str | None:
    """A form value as an id; None unless it is UTF-8."""
    try:
        return clean(getincrementaldecoder("utf-8")().decode(value[: MAX_LENGTH * 4]))
    except UnicodeDecodeError:
        return None


def _pairs_pattern(names: Iterable[str]) -> re.Pattern[bytes] | None:
    """What finds the pairs of these names, however their characters are escaped."""
    alternatives = [b"".join(map(_escaped, name.encode())) for name in sorted(set(names))]
    if not alternatives:
        return None
    return re.compile(rb"(?:^|&)(" + b"|".join(alternatives) + rb")(?:=([^&]*))?(?=&|\Z)")


def _escaped(byte: int) -> bytes:
    """A pattern for one byte of an urlencoded name."""
    character = bytes([byte])
    high, low = (
        f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{byte:02x}"
    )
    ways = [f"%{high}{low}".encode()]
    if character == b" ":
        ways += [rb"\+", b" "]
    elif character not in b"+&=%":
        ways.append(re.escape(character))
    return b"(?:" + b"|".join(ways) + b")"


def compile_rules(rules: Rules, *, hashed: Sequence[str] = (), key: str = "") -> IdExtractor:
    """Compile `rules` once, at start-up.

    :param hashed: attributes whose values are stored as `keyed_hash`.
    :param key: the secret of that hash.
    :raises ConfigError: as `check_rules`.
    """
    check_rules(rules)
    split = [source.partition(":") for sources in rules.values() for source in sources]
    paths = {kind for kind, colon, _ in split if not colon}
    steps = tuple(
        (attribute, tuple(map(_split, sources)), attribute in hashed)
        for attribute, sources in rules.items()
    )
    return IdExtractor(
        order={attribute: tuple(sources) for attribute, sources in rules.items()},
        body=frozenset(paths),
        reads_path=any(kind == "path" for kind, colon, _ in split if colon),
        hashed=frozenset(hashed),
        from_json=_json_scanner({path: tuple(path.split(".")) for path in sorted(paths)}),
        form_pattern=_pairs_pattern(paths),
        query_pattern=_pairs_pattern(name for kind, _, name in split if kind == "query"),
        steps=steps,
        paths=None
        if any(len(sources) > 1 or sources[0][0] for _, sources, _ in steps)
        else tuple((attribute, sources[0][1], hides) for attribute, sources, hides in steps),
        hash=_hasher(key.encode()),
    )


def _split(source: str) -> tuple[str, str]:
    kind, colon, name = source.partition(":")
    return (kind, name) if colon else ("", source)


@lru_cache(maxsize=64)
def _form_of(content_type: str) -> str | None:
    """How a body of this Content-Type is to be searched; None if it is not."""
    mimetype = content_type.partition(";")[0].strip().lower()
    if mimetype.endswith("+json"):
        return "json"
    return _FORMS.get(mimetype)


def keyed_hash(value: str, key: bytes) -> bytes:
    """16 bytes of keyed BLAKE2b (RFC 7693) over UTF-8; `key` of any length."""
    return bytes.fromhex(_hasher(key)(value))


@lru_cache(maxsize=8)
def _hasher(key: bytes) -> Callable[[str], str]:
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        key = hashlib.blake2b(key).digest()
    keyed = hashlib.blake2b(digest_size=16, key=key, person=b"bodytrace")

    def digest(value: str) -> str:
        # A copy takes two thirds of what keying anew does.
        mine = keyed.copy()
        mine.update(value.encode())
        return mine.hexdigest()

    return digest


def clean(value: object) -> str | None:
    """A scalar as an id: printable, without surrounding space, cut; None if nothing is left."""
    if isinstance(value, str):
        text = value[: MAX_LENGTH * 2].strip()
    elif isinstance(value, int):
        if isinstance(value, bool) or value.bit_length() > _MOST_BITS:
            return None
        text = str(value)
    elif isinstance(value, float | UUID):
        text = str(value)
    else:
        return None
    if not text.isprintable() or _REPLACEMENT in text:
        return None
    return text[:MAX_LENGTH] or None


# JSON: structs built from the paths, so that msgspec skips everything else without decoding it.


class _Node:
    """One step on the way to the wanted values: an object's field or an array's index."""

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.path: str | None = None
        self.level: msgspec.json.Decoder[Any]
        self.items: msgspec.json.Decoder[Any] | None

    def is_plain(self) -> bool:
        """Whether objects alone lead to every value, each of which ends its path."""
        return all(
            not _is_index(name) and (child.path is None or not child.children) and child.is_plain()
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
        self.items = None
        if indices := [int(name) for name in self.children if _is_index(name)]:
            # Read up to the last index; what comes after is skipped without being decoded.
            raw = msgspec.Raw | msgspec.UnsetType
            wanted = [(f"f{index}", raw, msgspec.UNSET) for index in range(max(indices) + 1)]
            struct = msgspec.defstruct("Items", wanted, array_like=True, gc=False)
            self.items = msgspec.json.Decoder(struct)
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
        if self.items is None:
            return
        try:
            items = self.items.decode(data)
        except msgspec.ValidationError:
            return
        for name, child in self.children.items():
            value = getattr(items, f"f{name}", msgspec.UNSET)
            if value is not msgspec.UNSET:
                child.scan(value, found)


_scalar: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_Scalar)


def _is_index(name: str) -> bool:
    return name.isascii() and name.isdigit() and str(int(name)) == name and int(name) <= _MAX_INDEX


def _named(name: str, default: Any) -> Any:
    return msgspec.field(name=name, default=default)


def _flat_scanner(
    names: Iterable[str], careful: Callable[[bytes], dict[str, str]]
) -> Callable[[bytes], dict[str, str]]:
    """What finds short words in fields of the document itself; anything else is left to `careful`.

    Most ids are such: decoded into the answer, they only need to be looked at, which takes a
    quarter of what `clean` on each does.
    """
    text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_LENGTH)]
    fields: Any = dict.fromkeys(names, text)
    ids: Any = TypedDict("Ids", fields, total=False)  # type: ignore[misc]  # named by settings
    decode: Callable[[bytes], Any] = msgspec.json.Decoder(ids).decode

    def scan(data: bytes) -> dict[str, str]:
        try:
            found: dict[str, str] = decode(data)
        except msgspec.DecodeError:
            return careful(data)
        for value in found.values():
            if not value.isprintable() or " " in value or not value.isascii():
                return careful(data)
        return found

    return scan


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

    return scan if any(len(parts) > 1 for parts in paths.values()) else _flat_scanner(paths, scan)
