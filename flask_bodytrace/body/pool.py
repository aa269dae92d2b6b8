"""A pool of zeroed byte buffers for request bodies that are read piece by piece."""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque

SMALLEST = 128 * 1024
"""Bytes of the smallest pooled buffer: below, allocating is cheaper; ``make bench-body``."""

_BUFFERS_PER_CLASS = 8
_IDLE_SECONDS = 30.0
# Small enough to stay in the processor's cache while it is copied over a buffer.
_ZEROS = memoryview(bytes(64 * 1024))


class Lease:
    """One buffer, lent to one request until :meth:`release`.

    `view` is the only handle that goes out. Releasing it makes every later use by a forgotten
    thread raise `ValueError`, and slices taken from it before keep the buffer out of the pool.
    """

    __slots__ = ("_buffer", "_pool", "view")

    def __init__(self, pool: BufferPool, buffer: bytearray) -> None:
        self._pool = pool
        self._buffer: bytearray | None = buffer
        self.view = memoryview(buffer)

    def release(self, used: int) -> None:
        """Give the buffer back, once; `used` is how many leading bytes were written.

        Any further call does nothing. A buffer somebody still looks at is abandoned to the
        garbage collector instead of being reused.
        """
        self._pool._take_back(self, used)


class BufferPool:
    """Size-classed buffers (powers of two from `SMALLEST`), bounded in number, bytes, idle time.

    :param largest: size of the largest buffer ever pooled, bytes.
    :param limit: bytes kept for reuse in all, at most; 0 switches pooling off.

    Safe for threads; a forked child starts with an empty pool. Reuse is last in, first out, so
    that pages stay warm; trimming happens when buffers come back, there is no timer.
    """

    def __init__(self, *, largest: int, limit: int) -> None:
        self._limit = limit
        self._classes: list[int] = []
        capacity = SMALLEST
        while capacity <= min(largest, limit):
            self._classes.append(capacity)
            capacity *= 2
        self.hits = 0
        self.misses = 0
        self.kept_bytes = 0
        self._reset()
        if hasattr(os, "register_at_fork"):
            reset = weakref.WeakMethod(self._reset)
            os.register_at_fork(after_in_child=lambda: (method := reset()) and method())

    def _reset(self) -> None:
        # Reentrant: the garbage collector may close an abandoned request at any allocation.
        self._lock = threading.RLock()
        self._free: dict[int, deque[tuple[float, bytearray]]] = {
            capacity: deque() for capacity in self._classes
        }
        self.kept_bytes = 0

    def acquire(self, size: int) -> Lease:
        """Lend a zeroed buffer of at least `size` bytes."""
        capacity = 1 << (size - 1).bit_length()
        with self._lock:
            free = self._free.get(capacity)
            if free:
                _, buffer = free.pop()
                self.kept_bytes -= capacity
                self.hits += 1
                return Lease(self, buffer)
            if free is None:
                capacity = size
            else:
                self.misses += 1
        return Lease(self, bytearray(capacity))

    def _take_back(self, lease: Lease, used: int) -> None:
        with self._lock:
            buffer, lease._buffer = lease._buffer, None
        if buffer is None:
            return
        with memoryview(buffer) as whole:
            for start in range(0, used, len(_ZEROS)):
                end = min(start + len(_ZEROS), used)
                whole[start:end] = _ZEROS[: end - start]
        try:
            lease.view.release()
            # A bytearray refuses to change size while any export of it is alive.
            buffer.pop()
            buffer.append(0)
        except BufferError:
            return
        now = time.monotonic()
        capacity = len(buffer)
        with self._lock:
            self._trim(now - _IDLE_SECONDS)
            free = self._free.get(capacity)
            if (
                free is not None
                and len(free) < _BUFFERS_PER_CLASS
                and self.kept_bytes + capacity <= self._limit
            ):
                free.append((now, buffer))
                self.kept_bytes += capacity

    def _trim(self, oldest: float) -> None:
        for capacity, free in self._free.items():
            while free and free[0][0] < oldest:
                free.popleft()
                self.kept_bytes -= capacity
