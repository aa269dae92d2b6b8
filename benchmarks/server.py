"""A real server at saturation: gunicorn's gthread worker on one core, wrk on another."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from . import sink, subjects

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0}
THREADS = 8
CONNECTIONS = 32


@dataclass
class Load:
    """What wrk saw of one subject: requests per second and the 99th percentile in milliseconds."""

    throughput: list[float] = field(default_factory=list)
    p99: list[float] = field(default_factory=list)

    def add(self, throughput: float, p99: float) -> None:
        """Add one round."""
        self.throughput.append(throughput)
        self.p99.append(p99)


def application(subject: str, sampler: str) -> subjects.Wsgi:
    """What gunicorn loads."""
    return subjects.make(subject, sampler)


def measure(
    names: list[str], *, sampler: str, rounds: int, seconds: int, connections: int = CONNECTIONS
) -> dict[str, Load]:
    """Each subject's load, in interleaved rounds.

    :param sampler: ``always``, with an incoming sampled traceparent; ``1%``, where traces start
        here and one in a hundred is kept.
    """
    results = {name: Load() for name in names}
    for _ in range(rounds):
        for name in names:
            with serving(name, sampler) as port:
                warm(port, sampler)
                results[name].add(*wrk(port, sampler, seconds=seconds, connections=connections))
    return results


EXPORTED = {
    "bare": ("bare", ""),
    "otel_flask": ("otel_flask", "official"),
    "ours_official": ("ours", "official"),
    "ours_fastotel": ("ours", "fastotel"),
    "ours": ("ours", "own"),
    "ours_full": ("ours_full", "own"),
}
"""For `measure_exported`, by row: who makes the spans, and who exports them (`subjects`)."""


def measure_exported(*, rounds: int, seconds: int) -> dict[str, Load]:
    """As `measure`, all sampled and exported to a sink that shares the core of `wrk`."""
    results = {name: Load() for name in EXPORTED}
    with sink.running(*_on_core(1)) as variables:
        for _ in range(rounds):
            for name, (subject, export) in EXPORTED.items():
                environment = {**variables, "BENCH_EXPORT": export}
                with serving(subject, "always", environment) as port:
                    warm(port, "always")
                    load = wrk(port, "always", seconds=seconds, connections=CONNECTIONS)
                results[name].add(*load)
    return results


def concurrency(
    names: list[str], levels: list[int], *, rounds: int, seconds: int
) -> dict[int, dict[str, Load]]:
    """As `measure`, sampled, by number of connections; one server takes all levels in turn."""
    results = {level: {name: Load() for name in names} for level in levels}
    for _ in range(rounds):
        for name in names:
            with serving(name, "always") as port:
                warm(port, "always")
                for level in levels:
                    load = wrk(port, "always", seconds=seconds, connections=level)
                    results[level][name].add(*load)
    return results


@contextmanager
def serving(subject: str, sampler: str, environment: dict[str, str] | None = None) -> Iterator[int]:
    """A gunicorn for as long as the block runs; its port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *_on_core(0),
            *(sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}"),
            *("--worker-class", "gthread", "--threads", str(THREADS), "--log-level", "warning"),
            f"benchmarks.server:application({subject!r}, {sampler!r})",
        ],
        # ddtrace prints what it did not send when it is ended in the middle of a request.
        stderr=subprocess.DEVNULL,
        env={**os.environ, **(environment or {})},
    )
    try:
        for _ in range(300):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.1)
        yield port
    finally:
        process.terminate()
        process.wait()


def warm(port: int, sampler: str) -> None:
    """Load it till it answers all: a worker that has just started keeps some clients waiting."""
    for _ in range(10):
        try:
            wrk(port, sampler, seconds=1, connections=THREADS)
        except RuntimeError:
            continue
        return


def wrk(port: int, sampler: str, *, seconds: int, connections: int) -> tuple[float, float]:
    """Requests per second and the 99th percentile in ms, of reference requests."""
    body = subjects.document(1024).decode()
    headers = {"Content-Type": "application/json"}
    if sampler == "always":
        headers["traceparent"] = f"00-{subjects.TRACE_ID}-00f067aa0ba902b7-01"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        lines = [f'wrk.headers["{name}"] = "{value}"' for name, value in headers.items()]
        script.write_text("\n".join(['wrk.method = "POST"', f"wrk.body = [==[{body}]==]", *lines]))
        output = subprocess.run(
            [
                *_on_core(1),
                *("wrk", "--threads", "1", "--connections", str(connections)),
                *("--duration", f"{seconds}s", "--latency", "--script", str(script)),
                f"http://127.0.0.1:{port}/orders/17?currency=EUR",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    if "Non-2xx" in output or "Socket errors" in output:
        raise RuntimeError(output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    tail = re.search(r"99%\s+([\d.]+)(us|ms|s)", output)
    if rate is None or tail is None:
        raise RuntimeError(output)
    return float(rate[1]), float(tail[1]) * _UNITS[tail[2]]


def _on_core(number: int) -> list[str]:
    return ["taskset", "--cpu-list", str(number)] if (os.cpu_count() or 1) > 1 else []
