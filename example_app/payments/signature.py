"""Signatures over a body's raw bytes: HMAC-SHA256, as `X-Signature: sha256=<64 hex digits>`."""

from __future__ import annotations

import hmac

HEADER = "X-Signature"


def sign(key: bytes, body: bytes) -> str:
    """Return the header's value for `body`."""
    return "sha256=" + hmac.digest(key, body, "sha256").hex()


def matches(key: bytes, body: bytes, value: str) -> bool:
    """Whether `value`, taken from the header, is the signature of exactly these bytes."""
    return hmac.compare_digest(sign(key, body).encode(), value.encode("utf-8", "replace"))
