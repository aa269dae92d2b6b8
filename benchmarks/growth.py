"""How the cost of a request grows with its body: 0 to 1 MB, direct WSGI calls."""

from __future__ import annotations

import gc
import time

from . import subjects

SIZES = (0, 1_000, 10_000, 64_000, 100_000, 256_000, 1_000_000)
NAMES = ("bare", "ours")


def measure(*, rounds: int, seconds: float) -> dict[int, dict[str, float]]:
    """CPU microseconds of a request, sampled, by body size and subject: minimum of all rounds."""
    applications = {name: subjects.make(name) for name in NAMES}
    results: dict[int, dict[str, float]] = {}
    for size in SIZES:
        body = subjects.document(size) if size else b""
        environ = subjects.environ(body)
        if not body:
            environ |= {"REQUEST_METHOD": "GET", "PATH_INFO": "/ping"}
            del environ["CONTENT_TYPE"]
        calls = {
            name: subjects.caller(application, environ, body)
            for name, application in applications.items()
        }
        best = dict.fromkeys(NAMES, float("inf"))
        for call in calls.values():
            for _ in range(20):
                call()
        gc.collect()
        start = time.process_time()
        calls["bare"]()
        count = max(5, min(300, int(seconds / max(time.process_time() - start, 1e-5))))
        for _ in range(rounds):
            for name, call in calls.items():
                start = time.process_time()
                for _ in range(count):
                    call()
                best[name] = min(best[name], (time.process_time() - start) / count * 1e6)
        results[size] = best
    return results
