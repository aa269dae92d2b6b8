"""What a body is, and the rules it is kept by.

| state | set while | a reader gets |
|---|---|---|
| unread | nothing was asked for | the first read begins it |
| filling | `begun`, not `complete` | what is in store, then the server's next bytes |
| complete | `complete` | any part of it, again and again |
| passed on | not `replayable` | the original stream, once: over the limit |
| failed | `error` is set | that error, every time: lost client, 413, no number |
| closed | `closed` | `ValueError`: the request is over |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING, Any

from .store import BodyStore, BorrowedFile, SpillQuota

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from .pool import BufferPool


def _ignore(_event: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class BodyRules:
    """How bodies of one application are kept. Sizes are bytes.

    :param pool: lends the buffers for bodies that are read piece by piece.
    :param memory_limit: larger bodies read piece by piece go to an unlinked temporary file.
    :param body_limit: larger bodies are rejected or passed on.
    :param reject: over the limit, raise 413 instead of passing the original stream on, once.
    :param on_event: called with ``"spilled"``, ``"unspillable"``, ``"rejected"`` or ``"passed"``.
    :param spill_quota: what all bodies together may take of the disk.
    :param sets_length: whether a body whose length was unknown gets a Content-Length, and loses its
        Transfer-Encoding, for frameworks that read nothing without one.
    """

    pool: BufferPool
    memory_limit: int
    body_limit: int
    reject: bool = False
    on_event: Callable[[str], None] = _ignore
    spill_quota: SpillQuota | None = None
    sets_length: bool = False


class BodyState:
    """The state of one body; `filling` has what changes it."""

    # Slots: reading one is quicker than reading a default of the class.
    __slots__ = (
        "__weakref__",
        "ahead",
        "ahead_at",
        "begun",
        "closed",
        "closes_with",
        "complete",
        "data",
        "declared",
        "environ",
        "error",
        "kept",
        "lock",
        "max_length",
        "passed",
        "replayable",
        "rules",
        "source",
        "store",
        "waiting",
    )

    environ: WSGIEnvironment | None
    rules: BodyRules
    source: Any
    """The server's input object; None once the request is over."""
    lock: Lock
    """Held while waiting for the client: nobody takes it for what is in store already."""
    waiting: int
    """Bytes to be had in one read, until somebody reads; 0 where it is not so simple."""
    declared: int | None
    """What the client says, bytes; None where the end is only known when reached."""
    data: bytes | None
    """All of it in one piece, once somebody asked for that."""
    store: BodyStore | BorrowedFile | None
    """What was read piece by piece."""
    kept: int
    """Bytes in store or in `data`."""
    passed: int
    """Bytes given out without being kept."""
    ahead: bytes
    """Read from the server for one line, and beyond its end."""
    ahead_at: int
    begun: bool
    complete: bool
    replayable: bool
    """False once the body is known to be over the limit: it can be read once."""
    closed: bool
    error: type[Exception] | Exception | None
    max_length: int | None
    """The application's own limit (``MAX_CONTENT_LENGTH``), bytes; None is none."""
    closes_with: tuple[Any, ...]
    """Bodies made of the same environ later."""
