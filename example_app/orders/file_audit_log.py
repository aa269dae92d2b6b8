"""The audit log as a file of JSON lines."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from example_app.orders.audit import AuditEntry


class FileAuditLog:
    """An `AuditLog` at the end of the file `path`, which only its owner may read."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, entry: AuditEntry) -> None:
        """Add an entry: one write, so that those of several processes do not mix."""
        os.write(self._file, msgspec.json.encode(entry) + b"\n")

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
