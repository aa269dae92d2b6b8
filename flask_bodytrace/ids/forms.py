"""Values of urlencoded strings and of multipart fields. Pure, no I/O."""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from werkzeug.datastructures import Headers
from werkzeug.http import parse_options_header

from .value import MAX_LENGTH, id_text


def from_pairs(pattern: re.Pattern[bytes] | None, data: bytes) -> dict[str, str]:
    """The wanted pairs of an urlencoded string; of a doubled name the first, as in Werkzeug."""
    values: dict[str, str | None] = {}
    if pattern is not None:
        for match in pattern.finditer(data):
            name = unquote_to_bytes(match[1].replace(b"+", b" ")).decode()
            if name not in values:
                raw = (match[2] or b"")[: MAX_LENGTH * 12]
                values[name] = text_of(unquote_to_bytes(raw.replace(b"+", b" ")))
    return {name: value for name, value in values.items() if value is not None}


def is_utf8(headers: Headers) -> bool:
    """Whether a part says nothing else of its charset."""
    options = parse_options_header(headers.get("content-type"))[1]
    return options.get("charset", "utf-8").lower() in {"utf-8", "us-ascii", "ascii"}


def text_of(value: bytes) -> str | None:
    """A form value as an id; None unless it is UTF-8."""
    try:
        return id_text(getincrementaldecoder("utf-8")().decode(value[: MAX_LENGTH * 4]))
    except UnicodeDecodeError:
        return None


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
