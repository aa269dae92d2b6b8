"""Business ids: rules compiled once, then pure (bytes, content type) -> dict.

A source is a body path (``orderId``, ``order.items.0.sku``), ``path:name``, ``query:name`` or
``header:Name``; the first that yields wins. Extraction never raises, and decodes nothing that no
rule names.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder
from collections.abc import Iterable
from urllib.parse import unquote_to_bytes

from werkzeug.http import parse_options_header
from werkzeug.sansio.multipart import Field

from .value import MAX_LENGTH, clean

_MAX_PARTS = 1000


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
