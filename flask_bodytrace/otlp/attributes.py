"""Attributes as sized ``KeyValue`` messages (OTLP 1.x). What repeats is kept as bytes, bounded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import Struct
from typing import Any

from .wire import int64, sized, varint

MAX_KEYS = 512
"""Keys of attributes whose values are kept as bytes; also names of spans."""
MAX_VALUES = 32
"""Values kept for one key; a key with more has other values each time, and keeps none."""
MAX_LENGTH = 256
"""Characters of a key or value; longer ones are not kept."""

_SHORT = 60
"""Bytes of a key, and of a value, whose lengths take one byte each, together too."""
_double = Struct("<d").pack
_TEXT = frozenset({str})


Texts = tuple[dict[str | tuple[str, ...], bytes], dict[int, bytes], bytes]
"""Of one key: the texts and lists of texts kept, what comes before a short text by its length, and
its name."""
Numbers = tuple[dict[int, bytes], dict[int, bytes], bytes]
"""Of one key: the integers kept, what comes before one by its length, and its name."""


class AttributeEncoder:
    """Encodes attributes, and keeps what repeats."""

    def __init__(self) -> None:
        self.texts: dict[str, Texts] = {}
        self.numbers: dict[str, Numbers] = {}

    def pairs(  # noqa: C901, PLR0912 - inline, since it runs for each attribute of each span
        self, attributes: Mapping[str, Any]
    ) -> list[bytes]:
        """Each attribute as a sized ``KeyValue``.

        :raises Exception: one of them is not known here.
        """
        texts, numbers = self.texts, self.numbers
        pairs = []
        for key, value in attributes.items():
            # By type, since 1 == True == 1.0; of floats none is kept, since 0.0 == -0.0.
            kind = type(value)
            if kind is str:
                kept, before, name = texts.get(key) or self._texts_of(key)
                # Nothing is kept of captured bodies: no need to hash one to know that.
                pair = kept.get(value) if kept else None
                if pair is None:
                    data = value.encode()
                    size = len(data)
                    start = before.get(size)
                    if start is not None:
                        pair = start + data
                    elif size > MAX_LENGTH:
                        pair = _long(name, data)
                    else:
                        # The field `string_value`, number 1, in `value`.
                        pair = sized(name + sized(b"\x0a" + sized(data)))
                        if size < _SHORT and len(name) < _SHORT:
                            before[size] = pair[: len(pair) - size]
                    if len(kept) < MAX_VALUES and size <= MAX_LENGTH:
                        kept[value] = pair
            elif kind is int:
                known, before, name = numbers.get(key) or self._numbers_of(key)
                pair = known.get(value)
                if pair is None:
                    # The field `int_value`, number 3.
                    data = b"\x18" + int64(value)
                    size = len(data)
                    start = before.get(size)
                    if start is not None:
                        pair = start + data
                    else:
                        pair = sized(name + sized(data))
                        before[size] = pair[: len(pair) - size]
                    if len(known) < MAX_VALUES:
                        known[value] = pair
            else:
                pair = self._other(key, value)
            pairs.append(pair)
        return pairs

    def _other(self, key: str, value: Any) -> bytes:
        if type(value) is not tuple or not _TEXT.issuperset(map(type, value)):
            return sized(_name(key) + sized(any_value(value)))
        kept, _, name = self.texts.get(key) or self._texts_of(key)
        pair = kept.get(value)
        if pair is None:
            pair = sized(name + sized(any_value(value)))
            if len(kept) < MAX_VALUES and len(pair) <= MAX_LENGTH:
                kept[value] = pair
        return pair

    def _texts_of(self, key: str) -> Texts:
        made: Texts = ({}, {}, _name(key))
        _keep(self.texts, key, made)
        return made

    def _numbers_of(self, key: str) -> Numbers:
        made: Numbers = ({}, {}, _name(key))
        _keep(self.numbers, key, made)
        return made


def _keep(by_key: dict[str, Any], key: str, made: Any) -> None:
    if len(key) <= MAX_LENGTH:
        if len(by_key) >= MAX_KEYS:
            by_key.clear()
        by_key[key] = made


def _name(key: str) -> bytes:
    """The field ``key``, number 1, and the tag of ``value``, number 2."""
    return (b"\x0a" + sized(key.encode()) if key else b"") + b"\x12"


def _long(name: bytes, data: bytes) -> bytes:
    """The sized ``KeyValue`` of a text that is not kept; all of it is copied once."""
    text = b"\x0a" + varint(len(data))
    size = len(text) + len(data)
    value = varint(size)
    return b"".join((varint(len(name) + len(value) + size), name, value, text, data))


def any_value(value: Any) -> bytes:  # noqa: PLR0911 - one line for each type
    """An ``AnyValue``; the order of questions is the official encoder's.

    :raises TypeError: a value of no type that OTLP has.
    """
    if value is None:
        return b""
    if isinstance(value, bool):
        return b"\x10\x01" if value else b"\x10\x00"
    if isinstance(value, str):
        return b"\x0a" + sized(value.encode())
    if isinstance(value, int):
        return b"\x18" + int64(value)
    if isinstance(value, float):
        return b"\x21" + _double(value)
    if isinstance(value, bytes):
        return b"\x3a" + sized(value)
    if isinstance(value, Sequence):
        return b"\x2a" + sized(b"".join(b"\x0a" + sized(any_value(each)) for each in value))
    if isinstance(value, Mapping):
        pairs = (sized(_name(str(key)) + sized(any_value(each))) for key, each in value.items())
        return b"\x32" + sized(b"".join(b"\x0a" + pair for pair in pairs))
    raise TypeError(f"invalid type {type(value).__name__}")
