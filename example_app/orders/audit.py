"""What is kept of an order's body for an audit: enough to prove what was sent, nothing readable."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import IO

CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True)
class BodyRecord:
    """A body's length in bytes and its SHA-256 as 64 hex digits."""

    size: int
    sha256: str


def record(stream: IO[bytes]) -> BodyRecord:
    """Read `stream` to its end, in chunks, so that a large body is never held whole."""
    size, digest = 0, hashlib.sha256()
    while chunk := stream.read(CHUNK_BYTES):
        size += len(chunk)
        digest.update(chunk)
    return BodyRecord(size=size, sha256=digest.hexdigest())
