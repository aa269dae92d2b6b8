"""The buffer pool: nobody sees another's bytes, nothing is handed out twice (cases B12-B14, B19).

``BODYTRACE_SOAK=1`` (``make soak``) runs a million reuses; the suite a fiftieth of that.
"""

from __future__ import annotations

import os
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from flask_bodytrace.body import pool as pool_module
from flask_bodytrace.body.pool import SMALLEST, BufferPool, Lease

SOAK = bool(os.environ.get("BODYTRACE_SOAK"))
REUSES = 1_000_000 if SOAK else 20_000


# B14
def test_buffers_come_back_zeroed_and_reused() -> None:
    pool = BufferPool(largest=1 << 20, limit=1 << 20)
    lease = pool.acquire(200_000)
    lease.view[:200_000] = b"s" * 200_000
    lease.release(200_000)
    again = pool.acquire(150_000)
    assert bytes(again.view) == bytes(1 << 18)
    assert (pool.hits, pool.misses, pool.kept_bytes) == (1, 1, 0)


# B13
def test_release_is_one_shot() -> None:
    pool = BufferPool(largest=1 << 20, limit=1 << 20)
    lease = pool.acquire(SMALLEST)
    lease.release(0)
    lease.release(0)
    first, second = pool.acquire(SMALLEST), pool.acquire(SMALLEST)
    assert first.view.obj is not second.view.obj


# B12
def test_view_kept_by_a_thread_is_dead_and_its_slice_keeps_the_buffer() -> None:
    pool = BufferPool(largest=1 << 20, limit=1 << 20)
    lease = pool.acquire(SMALLEST)
    view, part = lease.view, lease.view[:10]
    buffer = part.obj
    lease.release(10)
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert pool.kept_bytes == 0
    assert pool.acquire(SMALLEST).view.obj is not buffer
    assert bytes(part) == bytes(10)


# B19
def test_kept_bytes_are_bounded() -> None:
    pool = BufferPool(largest=1 << 20, limit=2 << 20)
    leases = [pool.acquire(size) for size in [1 << 20] * 5 + [SMALLEST] * 20]
    for lease in leases:
        lease.release(1)
    assert pool.kept_bytes <= 2 << 20
    small = BufferPool(largest=1 << 20, limit=100 << 20)
    for lease in [small.acquire(SMALLEST) for _ in range(20)]:
        lease.release(1)
    assert small.kept_bytes == 8 * SMALLEST


# B19
def test_idle_buffers_go(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = BufferPool(largest=1 << 20, limit=8 << 20)
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    pool.acquire(1 << 20).release(1)
    assert pool.kept_bytes == 1 << 20
    now = 31.0
    pool.acquire(SMALLEST).release(1)
    assert pool.kept_bytes == SMALLEST


def test_too_large_or_switched_off_is_not_kept() -> None:
    pool = BufferPool(largest=1 << 20, limit=8 << 20)
    pool.acquire(3 << 20).release(1)
    off = BufferPool(largest=1 << 20, limit=0)
    off.acquire(1 << 20).release(1)
    assert pool.kept_bytes == off.kept_bytes == 0


def test_forked_child_starts_empty() -> None:
    pool = BufferPool(largest=1 << 20, limit=8 << 20)
    pool.acquire(1 << 20).release(1)
    # Held by the parent at that moment: the child must not wait for it.
    with pool._lock:
        child = os.fork()
        if child == 0:
            pool.acquire(1 << 20)
            os._exit(0 if (pool.hits, pool.kept_bytes) == (0, 0) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.kept_bytes == 1 << 20


def _own(pool: BufferPool, seed: int, uses: int, kept: list[Any]) -> int:
    """Take, check, mark, check, give back; sometimes drop it or keep a slice. Counts strangers."""
    choose = random.Random(seed)  # noqa: S311 - not for secrets
    mark = bytes([1 + seed % 255])
    wrong = 0
    for _ in range(uses):
        size = choose.choice((SMALLEST, 2 * SMALLEST))
        lease: Lease = pool.acquire(size)
        used = choose.randrange(1, 4096)
        view = lease.view
        wrong += view[:4096] != bytes(4096) or view[size - 1] != 0
        view[:used] = mark * used
        fate = choose.random()
        wrong += bytes(view[:used]) != mark * used
        if fate < 0.01:
            del lease, view
            continue
        if fate < 0.02:
            kept.append((view[:used], bytes(used)))
        lease.release(used)
        if fate > 0.98:
            lease.release(used)
    return wrong


# B12
def test_no_byte_of_one_request_in_another() -> None:
    pool = BufferPool(largest=1 << 20, limit=2 << 20)
    kept: list[Any] = []
    threads = 8
    with ThreadPoolExecutor(threads) as executor:
        wrong = sum(
            executor.map(
                lambda seed: _own(pool, seed, REUSES // threads * 21 // 20, kept), range(threads)
            )
        )
    assert wrong == 0
    # Slices that somebody kept were zeroed with their buffer, and nobody wrote there since.
    assert all(bytes(part) == zeros for part, zeros in kept)
    assert pool.hits >= REUSES * 9 // 10
    print(f"{pool.hits} buffers reused by {threads} threads, {wrong} foreign bytes")  # noqa: T201


# B12
def test_the_check_above_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool_module, "_ZEROS", memoryview(b"x" * 65_536))
    pool = BufferPool(largest=1 << 20, limit=2 << 20)
    assert _own(pool, 1, 50, []) > 0


def test_collector_may_close_a_request_inside_the_pool() -> None:
    pool = BufferPool(largest=1 << 20, limit=2 << 20)
    lease = pool.acquire(SMALLEST)
    done = threading.Event()

    def run() -> None:
        with pool._lock:
            lease.release(1)
        done.set()

    threading.Thread(target=run, daemon=True).start()
    assert done.wait(5)
