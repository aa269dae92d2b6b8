"""Values as people read them."""

from __future__ import annotations

import json
import re
from datetime import datetime, timezone
from typing import Any

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def duration(nanos: int) -> str:
    """Three digits and a unit: ``850 µs``, ``12.3 ms``, ``1.20 s``."""
    if nanos <= 0:
        return "-" + duration(-nanos) if nanos else "0"
    for limit, divisor, unit in ((1_000, 1, "ns"), (1_000_000, 1_000, "µs"), (10**9, 10**6, "ms")):
        # What would round up to 1000 belongs to the next unit.
        if nanos < limit - divisor / 2:
            return f"{_three_digits(nanos / divisor)} {unit}"
    if nanos < 100 * 10**9:
        return f"{_three_digits(nanos / 10**9)} s"
    minutes, seconds = divmod(nanos // 10**9, 60)
    return f"{minutes} min {seconds:02} s"


def _three_digits(number: float) -> str:
    if number == int(number):
        return str(int(number))
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


_SECONDS = {"s": 10**9, "ms": 10**6, "us": 1_000, "ns": 1}
_BYTES = ("B", "KiB", "MiB", "GiB", "TiB")


def amount(value: float, unit: str) -> str:
    """A metric's value with its unit, as OpenTelemetry (UCUM) writes units.

    Times as `duration` has them, bytes by powers of 1,024; what is counted, ``1`` and units in
    braces, has no unit.
    """
    if unit in _SECONDS:
        return duration(round(value * _SECONDS[unit]))
    if unit == "By":
        power = 0
        while abs(value) >= 1024 and power < len(_BYTES) - 1:
            value, power = value / 1024, power + 1
        return f"{_number(value)} {_BYTES[power]}"
    plain = unit in {"", "1"} or unit.startswith("{")
    return _number(value) if plain else f"{_number(value)} {unit}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def clock(nanos: int) -> str:
    """Local time of day, to the millisecond."""
    return _local(nanos).strftime("%H:%M:%S.") + f"{nanos // 10**6 % 1000:03}"


def iso(nanos: int) -> str:
    """Date and time as ISO 8601 has them, in UTC, to the millisecond."""
    at = datetime.fromtimestamp(nanos // 10**9, timezone.utc)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{nanos // 10**6 % 1000:03}Z"


def day(nanos: int) -> str:
    """Local date."""
    return _local(nanos).strftime("%Y-%m-%d")


def _local(nanos: int) -> datetime:
    return datetime.fromtimestamp(nanos // 10**9).astimezone()


def text(value: Any) -> str:
    """An attribute's value; lists and maps as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, bytes):
        return value.hex(" ")
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, int | float):
        return str(value)
    return json.dumps(value, ensure_ascii=False, default=text, indent=1)


def plain(value: str) -> str:
    """Without characters by which a name could steer a terminal or turn the line around.

    Also without halves of surrogate pairs, which no encoding has.
    """
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", value)
