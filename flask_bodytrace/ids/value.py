"""What may be an id."""

from __future__ import annotations

from uuid import UUID

MAX_LENGTH = 256
"""Longer values are cut to this many characters."""
_MOST_BITS = MAX_LENGTH * 3
# What decoders put where bytes were no text.
_REPLACEMENT = "\ufffd"


def id_text(value: object) -> str | None:
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
