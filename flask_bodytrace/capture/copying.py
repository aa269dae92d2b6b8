"""A copy of a document without its secrets. Pure, no I/O."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec

from .numbers import without_numbers
from .redactor import NAMED, NAMING, OPENING, REDACTED, SECRET, Redactor
from .text import LOOK_AHEAD

_DEEPEST = 64
NOT_JSON = (ValueError, RecursionError, msgspec.MsgspecError)
"""What decoding raises."""
_ABOVE, _BELOW = 10**12, -(10**12)
"""Numbers between these have too few digits for a card's."""
_LARGEST_CARD = 10**19
_LONGEST_NAME_IN_LIST = 64
_SPACE_BEFORE_VALUE = (" :", "\t:", "\n:", "\r:")
_HARMLESS_LENGTH = 12
"""Characters; shorter text is no token and no number to hide."""


def is_harmless(document: Any, text: str, redactor: Redactor, *, is_marked: bool) -> bool:
    """Whether nothing in a document is to be hidden; False if that takes a copy to know.

    :param text: what `document` was parsed from.
    :param is_marked: as for `Copier`.
    """
    looks_closely = is_marked or bool(redactor.patterns)
    count = 0
    # Sets, since documents repeat themselves.
    names: set[str] = set()
    texts: set[str] = set()
    open_values: list[Any] = [[document]]
    while open_values:
        value = open_values.pop()
        is_list = type(value) is list
        if not is_list:
            count += len(value)
            names.update(value)
            value = value.values()
        for inner in value:
            kind = type(inner)
            if kind is str:
                if is_list and redactor.is_secret(inner):
                    return False
                if len(inner) > _HARMLESS_LENGTH or looks_closely or ":" in inner:
                    texts.add(inner)
            elif kind is dict or kind is list:
                open_values.append(inner)
            elif (kind is int or kind is float) and not _BELOW < inner < _ABOVE and redactor.cards:
                texts.add(_digits(inner))
    return (
        _has_no_more_names(text, count)
        and redactor.are_harmless(names)
        and _are_harmless(texts, redactor, is_plain=not looks_closely)
    )


def _digits(number: float) -> str:
    """A number as digits, if it may be a card's."""
    return str(int(abs(number))) if abs(number) < _LARGEST_CARD else ""


def _has_no_more_names(text: str, count: int) -> bool:
    """Whether JSON has no more than that many names; False if that takes parsing it to know."""
    # Within strings there may be more of these, so if there are as many, there are no others.
    return text.count(":") == count or (
        text.count('":') == count and not any(space in text for space in _SPACE_BEFORE_VALUE)
    )


def has_each_name_once(document: Any, text: str) -> bool:
    """Whether no mapping in `text` has a name twice.

    Of two, a parser keeps the last one: what the first one holds is then in the text only.

    :param document: what `text` was parsed as.
    :raises RecursionError: it is nested too deeply to know.
    """
    count = 0
    open_values: list[Any] = [document]
    while open_values:
        value = open_values.pop()
        if type(value) is dict:
            count += len(value)
            open_values += value.values()
        elif type(value) is list:
            open_values += value
    if _has_no_more_names(text, count):
        return True
    pairs: list[int] = []
    json.loads(text, object_pairs_hook=lambda each: pairs.append(len(each)))
    return sum(pairs) == count


def _are_harmless(texts: set[str], redactor: Redactor, *, is_plain: bool) -> bool:
    """Whether none of these strings holds anything to hide.

    :param is_plain: whether none of them has quotes, tags, "=", or an end of a line.
    """
    if is_plain:
        # Nothing that is looked for in such text goes on behind the end of a line. What may be
        # JSON, or HTML's "&lt;", is looked at alone.
        together = "\n".join(texts)
        if not ("{" in together or "[" in together or "&" in together):
            return redactor.text(together) == together
    return not any(
        text.lstrip().startswith(OPENING) or redactor.text(text) != text for text in texts
    )


class Copier:
    """Copies one document, up to where there is enough to cut from.

    :param redactor: knows what is secret.
    :param limit: characters to copy, about.
    :param is_marked: whether short strings, too, may hold names with their values.
    """

    def __init__(self, redactor: Redactor, limit: int, *, is_marked: bool) -> None:
        self._redactor = redactor
        self._left = limit
        self.is_cut = False
        """Whether anything was left out at the end."""
        self._looks_closely = is_marked or bool(redactor.patterns)

    def copy(self, value: Any, depth: int = 0) -> Any:
        """A copy of `value`: a string, number, boolean, None, or a list or mapping of these."""
        if depth > _DEEPEST:
            return REDACTED
        kind = type(value)
        if kind is str:
            return self._string(value, depth)
        if kind is dict:
            return self._mapping(value, depth)
        if kind is list:
            return self._list(value, depth)
        self._left -= 1
        if (kind is int or kind is float) and not _BELOW < value < _ABOVE and self._redactor.cards:
            digits = _digits(value)
            return value if without_numbers(digits) == digits else REDACTED
        return value

    def _mapping(self, value: dict[str, Any], depth: int) -> dict[str, Any]:
        redactor = self._redactor
        shown: dict[str, Any] = {}
        named: list[str] = []
        is_named = False
        for name, inner in value.items():
            if self._left < 0:
                self.is_cut = True
                break
            kind = redactor.kind(name)
            key = self._plain(name)
            self._left -= len('"":,')
            if kind == SECRET:
                self._left -= len(REDACTED)
                shown[key] = REDACTED
                continue
            if kind == NAMED:
                named.append(key)
            elif kind == NAMING and type(inner) is str and redactor.is_secret(inner):
                is_named = True
            shown[key] = self.copy(inner, depth + 1)
        if is_named:
            for name in named:
                shown[name] = REDACTED
        return shown

    def _list(self, value: list[Any], depth: int) -> list[Any]:
        shown = []
        is_named = False
        for inner in value:
            if self._left < 0:
                self.is_cut = True
                break
            self._left -= 1
            shown.append(REDACTED if is_named else self.copy(inner, depth + 1))
            # ["Authorization", "Basic …"], also several of these pairs in one list.
            is_named = (
                not is_named
                and type(inner) is str
                and len(inner) <= _LONGEST_NAME_IN_LIST
                and " " not in inner
                and self._redactor.is_secret(inner)
            )
        return shown

    def _string(self, value: str, depth: int) -> str:
        """A string, which may itself be JSON with names and secrets of its own."""
        if not value.lstrip().startswith(OPENING):
            return self._plain(value)
        try:
            document = msgspec.json.decode(value)
        except NOT_JSON:
            return self._shortened(value, self._redactor.unparsed)
        return msgspec.json.encode(self.copy(document, depth + 1)).decode()

    def _plain(self, value: str) -> str:
        if len(value) > _HARMLESS_LENGTH or self._looks_closely or ":" in value:
            return self._shortened(value, self._redactor.text)
        self._left -= len(value)
        return value

    def _shortened(self, value: str, redact: Callable[[str], str]) -> str:
        left = max(self._left, 0)
        if len(value) <= left + LOOK_AHEAD:
            shown = redact(value)
        else:
            # A secret that begins at the end of the part is not seen to be one.
            shown = redact(value[: left + LOOK_AHEAD])[:-LOOK_AHEAD]
            # What follows would look as if nothing was left out before it.
            self._left = -1
            self.is_cut = True
        self._left -= len(shown)
        return shown
