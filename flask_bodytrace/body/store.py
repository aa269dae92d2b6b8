"""Where the bytes of one body are while it is read piece by piece: memory first, then a file."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from typing import IO, TYPE_CHECKING

from flask_bodytrace.log_once import LogOnce

if TYPE_CHECKING:
    from collections.abc import Callable

    from .pool import BufferPool, Lease


OVER = "I/O operation on the body of a request that is over"


class NoRoom(Exception):
    """The bodies of all requests together take as much of the disk as they may."""


class SpillQuota:
    """What all spilled bodies together may take of the disk.

    :param limit: bytes.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Whether there is room for `size` bytes more, which are then taken."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """`size` bytes are no longer on the disk."""
        with self._lock:
            self._left += size


class BodyStore:
    """Pieces of one body, appended in order and readable anywhere, by several threads at once.

    Where there is no place for a temporary file, the body stays in memory: whoever limits bodies
    (``BODYTRACE_BODY_LIMIT``) limits that too.

    :param pool: lends the memory.
    :param memory_limit: bytes; a larger body goes to a temporary file.
    :param expected: how large the body will be, bytes; None if nobody knows.
    :param on_event: called with ``"spilled"`` when the file is made, ``"unspillable"`` if it
        cannot be.
    :param quota: what all files together may take.

    The lock is held to copy bytes, never while waiting for a client.
    """

    __slots__ = (
        "_expected",
        "_file",
        "_lease",
        "_lock",
        "_memory_limit",
        "_on_event",
        "_pool",
        "_quota",
        "_size",
        "_stays",
        "_taken",
        "closed",
        "only",
    )

    def __init__(
        self,
        pool: BufferPool,
        memory_limit: int,
        expected: int | None,
        on_event: Callable[[str], None],
        quota: SpillQuota | None = None,
    ) -> None:
        self._pool = pool
        self._memory_limit = memory_limit
        self._expected = expected or 0
        self._on_event = on_event
        self._quota = quota
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._file: SpillFile | None = None
        self._size = 0
        self._taken = 0
        self._stays = False
        self.closed = False
        self.only: bytes | None = None
        """All there is, as long as that is a single piece."""

    def append(self, data: bytes, *, over_quota: bool = False) -> None:
        """Add the next piece.

        :param over_quota: whether it stays in memory although it should not.
        :raises NoRoom: the quota is used up; nothing was added.
        :raises ValueError: closed.
        """
        with self._lock:
            if self.closed:
                raise ValueError(OVER)
            size = self._size + len(data)
            is_large = max(size, self._expected) > self._memory_limit
            if over_quota:
                self._stay()
            elif is_large and not self._stays:
                self._take_quota(size)
            if is_large and not self._stays:
                try:
                    self._spill(data)
                except OSError:
                    _report("spill")
                    self._on_event("unspillable")
                    self._stay()
            if self._stays or not is_large:
                if self._size == 0:
                    self.only = data
                else:
                    self._reserve(size).view[self._size : size] = data
            self._size = size

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, fewer where there are no more.

        :raises ValueError: closed.
        """
        with self._lock:
            if self.closed:
                raise ValueError(OVER)
            return self._read(start, min(end, self._size))

    def close(self) -> None:
        """Give everything back, once."""
        with self._lock:
            self.closed = True
            self.only = None
            lease, self._lease = self._lease, None
            file, self._file = self._file, None
        if lease is not None:
            lease.release(self._size)
        if file is not None:
            file.close()
        self._give_quota_back()

    def _read(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        if self.only is not None:
            return self.only[start:end]
        if self._file is not None:
            return self._file.read(start, end)
        assert self._lease is not None
        with self._lease.view[start:end] as part:
            return bytes(part)

    def _reserve(self, size: int) -> Lease:
        lease = self._lease
        if lease is not None and len(lease.view) >= size:
            return lease
        # Memory is not touched before bytes arrive, whatever length the client declared.
        larger = self._pool.acquire(max(self._expected, size + size // 2))
        larger.view[: self._size] = self._read(0, self._size)
        self._lease = larger
        self.only = None
        if lease is not None:
            lease.release(self._size)
        return larger

    def _spill(self, data: bytes) -> None:
        """Add `data` to the file, which is made first if there is none.

        :raises OSError: there is no place for it; what was stored is where it was.
        """
        file = self._file
        if file is not None:
            file.append(data)
            return
        file = SpillFile()
        try:
            file.append(self._read(0, self._size))
            file.append(data)
        except BaseException:
            file.close()
            raise
        lease, self._lease = self._lease, None
        self.only = None
        self._file = file
        if lease is not None:
            lease.release(self._size)
        self._on_event("spilled")

    def _stay(self) -> None:
        """Go on in memory, with what is in the file already."""
        self._stays = True
        file = self._file
        if file is None:
            return
        held = file.read(0, self._size)
        self._file = None
        file.close()
        self._give_quota_back()
        self.only = held

    def _take_quota(self, size: int) -> None:
        if self._quota is None:
            return
        more = max(size, self._expected) - self._taken
        if more > 0 and not self._quota.take(more):
            raise NoRoom
        self._taken += max(more, 0)

    def _give_quota_back(self) -> None:
        taken, self._taken = self._taken, 0
        if self._quota is not None and taken:
            self._quota.give_back(taken)


_report = LogOnce(
    "no temporary file can be made for a request body, so bodies stay in memory up to "
    "BODYTRACE_BODY_LIMIT"
)


class SpillFile:
    """A temporary file without a name, mode 0600, that goes away with its last descriptor.

    A bare descriptor, so that a request nobody closes leaves neither it nor a warning behind.
    Not safe for threads by itself.
    """

    __slots__ = ("_descriptor", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._descriptor = -1
        with tempfile.TemporaryFile(buffering=0, prefix="bodytrace-") as file:
            self._descriptor = os.dup(file.fileno())

    def append(self, data: bytes) -> None:
        """Write all of `data` behind what is there.

        :raises OSError: there is no room.
        """
        with memoryview(data) as left:
            done = 0
            while done < len(left):
                done += _write_at(self._descriptor, left[done:], self._size + done)
        self._size += len(data)

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`, both inside the file."""
        data = _read_at(self._descriptor, end - start, start)
        if len(data) < end - start:
            # One read gives no more than 2 GiB, and less on some file systems.
            parts = [data]
            while data and (start := start + len(data)) < end:
                data = _read_at(self._descriptor, end - start, start)
                parts.append(data)
            data = b"".join(parts)
        return data

    def close(self) -> None:
        """Close the descriptor, once: the file's bytes are gone."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    __del__ = close


class BorrowedFile:
    """A complete body in a file the server made: read where it is, never closed by us.

    :param file: positioned at the body's first byte.
    """

    __slots__ = ("_file", "_lock", "_start")

    def __init__(self, file: IO[bytes]) -> None:
        self._file: IO[bytes] | None = file
        self._start = file.tell()
        self._lock = threading.Lock()

    def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end`.

        :raises ValueError: closed.
        """
        with self._lock:
            if self._file is None:
                raise ValueError(OVER)
            self._file.seek(self._start + start)
            return self._file.read(end - start) if end > start else b""

    def close(self) -> None:
        """Let go of the file, and leave it where it was."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None and not file.closed:
                file.seek(self._start)


if sys.platform == "win32":

    def _read_at(descriptor: int, size: int, offset: int) -> bytes:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.read(descriptor, size)

    def _write_at(descriptor: int, data: memoryview, offset: int) -> int:
        os.lseek(descriptor, offset, os.SEEK_SET)
        return os.write(descriptor, data)

else:
    # No file position that a forked child would share.
    _read_at = os.pread
    _write_at = os.pwrite
