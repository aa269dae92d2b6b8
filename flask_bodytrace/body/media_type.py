"""What the Content-Type and Content-Encoding fields say (RFC 9110, 8.3 and 8.4)."""

from __future__ import annotations


def media_type(content_type: str) -> str:
    """``application/json`` of ``Application/JSON; charset=utf-8``: lower case, no parameters."""
    return content_type.partition(";")[0].strip().lower()


def is_json(kind: str) -> bool:
    """Whether a media type is JSON: its own, or one with the suffix ``+json`` (RFC 6839, 3.1)."""
    return kind == "application/json" or kind.endswith("+json")


def is_coded(content_encoding: str) -> bool:
    """Whether a Content-Encoding field (RFC 9110, 8.4) names a coding, other than none."""
    return content_encoding.strip().lower() not in {"", "identity"}
