"""Ids in JSON: structs built from the paths, so that msgspec skips everything else."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypedDict

import msgspec

from .value import MAX_LENGTH, id_text

_Scalar = str | int | float | bool | None
_MAX_INDEX = 999


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
            elif (text := id_text(value)) is not None:
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
                text = id_text(_scalar.decode(data))
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


def json_scanner(paths: Mapping[str, tuple[str, ...]]) -> Callable[[bytes], dict[str, str]]:
    """A function that finds the values at `paths` in a document's bytes.

    It raises `msgspec.DecodeError` for what msgspec does not take for JSON.
    """
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


def from_document(document: Any, paths: Iterable[str]) -> dict[str, str]:
    """The ids in a document that was parsed whole."""
    found: dict[str, str] = {}
    for path in paths:
        value = document
        for part in path.split("."):
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and _is_index(part) and int(part) < len(value):
                value = value[int(part)]
            else:
                value = None
                break
        text = id_text(value)
        if text is not None:
            found[path] = text
    return found
