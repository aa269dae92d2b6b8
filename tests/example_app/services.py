"""One service of the example as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from example_app.bootstrap import Surroundings
from example_app.engines import Engines
from example_app.process import READY
from tests.body.servers import free_port

if TYPE_CHECKING:
    from pathlib import Path

EMBEDDED = Engines()


def environment(around: Surroundings) -> dict[str, str]:
    """This process's, with what a service reads; its spans go nowhere."""
    return {**os.environ, "OTEL_TRACES_EXPORTER": "none", **around.environment()}


def start_refused(data: Path, service: str, *options: str, engines: Engines = EMBEDDED) -> str:
    """Start a service that cannot start; return what it says on standard error."""
    services = {service: f"http://127.0.0.1:{free_port()}"}
    run = subprocess.run(
        [sys.executable, "-m", "example_app", "--service", service, *options],
        env=environment(Surroundings(data, services, b"key", engines=engines)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode != 0
    assert READY not in run.stdout
    return run.stderr
