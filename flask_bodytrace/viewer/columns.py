"""How wide text is in a terminal: Chinese, Japanese and Korean take two columns a character."""

from __future__ import annotations

import unicodedata

_WIDE = frozenset({"W", "F"})
_NONE = frozenset({"Mn", "Me", "Cf"})


def width(text: str) -> int:
    """Columns that a text takes."""
    if text.isascii():
        return len(text)
    return sum(_columns(character) for character in text)


def _columns(character: str) -> int:
    if unicodedata.category(character) in _NONE:
        return 0
    return 2 if unicodedata.east_asian_width(character) in _WIDE else 1


def cut(text: str, most: int) -> str:
    """A text in no more columns than `most`; an ellipsis says that more was there."""
    if width(text) <= most:
        return text
    taken, found = 1, []
    for character in text:
        taken += _columns(character)
        if taken > most:
            break
        found.append(character)
    return "".join(found) + "…"


def pad(text: str, to: int) -> str:
    """A text in exactly `to` columns."""
    short = cut(text, to)
    return short + " " * (to - width(short))
