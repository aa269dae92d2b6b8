"""Fields of protobuf messages as bytes (protobuf.dev, "Encoding"). Pure, no I/O."""

from __future__ import annotations

SHORT = [bytes((number,)) for number in range(128)]
"""The varints of one byte."""


def varint(number: int) -> bytes:
    """A base-128 varint of a non-negative integer."""
    if number < 1 << 7:
        return SHORT[number]
    if number < 1 << 14:
        return bytes((number & 127 | 128, number >> 7))
    if number < 1 << 21:
        return bytes((number & 127 | 128, number >> 7 & 127 | 128, number >> 14))
    digits = bytearray()
    while number > 127:
        digits.append(number & 127 | 128)
        number >>= 7
    digits.append(number)
    return bytes(digits)


def sized(data: bytes) -> bytes:
    """A length-delimited value: its length, then itself."""
    size = len(data)
    return (SHORT[size] if size < 128 else varint(size)) + data


def int64(number: int) -> bytes:
    """An ``int64``: negative ones as the varint of their two's complement.

    :raises OverflowError: it has more than 64 bits.
    """
    if not -(1 << 63) <= number < 1 << 63:
        raise OverflowError(f"{number.bit_length()} bits")
    return varint(number & (1 << 64) - 1)
