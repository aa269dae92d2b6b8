"""Values of urlencoded strings and of multipart fields. Pure, no I/O."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from werkzeug import urls
from werkzeug.datastructures import Headers
from werkzeug.formparser import MultiPartParser

from .value import MAX_LENGTH, id_text

# How Flask reads escapes that are no UTF-8: as they are. `werkzeug.urls` registers it.
_ESCAPES = f"{urls.__package__}.url_quote"
_charset_of = MultiPartParser().get_part_charset


def from_pairs(pattern: re.Pattern[bytes] | None, data: bytes) -> dict[str, str]:
    """The wanted pairs of an urlencoded string; of a doubled name the first, as in Werkzeug."""
    values: dict[str, str | None] = {}
    if pattern is not None:
        for match in pattern.finditer(data):
            name = unquote_to_bytes(match[1].replace(b"+", b" ")).decode()
            if name not in values:
                raw = unquote_to_bytes((match[2] or b"")[: MAX_LENGTH * 12].replace(b"+", b" "))
                values[name] = _text_of(raw, "utf-8", _ESCAPES)
    return {name: value for name, value in values.items() if value is not None}


def part_text(value: bytes, headers: Headers) -> str | None:
    """The value of a part of a multipart form as an id, in the charset that Flask reads it in."""
    return _text_of(value, _charset_of(headers), "replace")


def _text_of(value: bytes, charset: str, errors: str) -> str | None:
    first = value[: MAX_LENGTH * 4]
    # Cut, it may end within a character.
    is_whole = len(first) == len(value)
    return id_text(getincrementaldecoder(charset)(errors).decode(first, is_whole))


def pairs_pattern(names: Iterable[str]) -> re.Pattern[bytes] | None:
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
