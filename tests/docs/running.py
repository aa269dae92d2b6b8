"""Commands of the pages, left running."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_WAIT_S = 60
BASH = shutil.which("bash") or "/bin/bash"


def environment(**more: str) -> dict[str, str]:
    """This process's, with this Python's commands first, and nothing that configures Flask."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("FLASK_", "OTEL_", "PYTEST_", "WERKZEUG_", "COVERAGE_"))
    }
    path = f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"
    return {**kept, "PATH": path, "OTEL_METRICS_EXPORTER": "none", **more}


@contextmanager
def running(command: str, folder: Path, port: int, environ: Mapping[str, str]) -> Iterator[None]:
    """Run a command until the block ends; it begins when something listens at `port`."""
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [BASH, "-c", command],
            cwd=folder,
            env=environ,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + _WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)
        yield
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
