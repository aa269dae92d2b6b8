"""What is kept of an order's body for an audit: its digest with the order, its text redacted."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import IO, Protocol

import msgspec

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


class AuditEntry(msgspec.Struct, frozen=True, rename="camel"):
    """What the audit log says of one request.

    :ivar at: when, in ISO 8601.
    :ivar body: the body's text without its secrets; None if it is neither JSON nor a form.
    """

    at: str
    trace_id: str
    order_id: str | None
    size: int
    sha256: str
    body: str | None


class AuditLog(Protocol):
    """Keeps entries, for good."""

    def write(self, entry: AuditEntry) -> None:
        """Add an entry."""

    def close(self) -> None:
        """Let go of files."""
