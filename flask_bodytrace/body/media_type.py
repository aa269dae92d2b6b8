"""The media type of a Content-Type field (RFC 9110, 8.3.1)."""

from __future__ import annotations


def media_type(content_type: str) -> str:
    """``application/json`` of ``Application/JSON; charset=utf-8``: lower case, no parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type is JSON: its own, or one with the suffix ``+json`` (RFC 6839, 3.1)."""
    return kind == "application/json" or kind.endswith("+json")
