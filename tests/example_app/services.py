"""Services of the example as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from example_app.bootstrap import VIEWER, Surroundings
from example_app.engines import Engines
from example_app.process import READY
from tests.body.servers import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from example_app.system import System

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
        timeout=300,
        check=False,
    )
    assert run.returncode != 0
    assert READY not in run.stdout
    return run.stderr


@contextmanager
def one_more(
    system: System, name: str, addresses: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    """Run one more service of a system until the end of the block, where it ends by SIGKILL.

    :param addresses: its own, and those of services that it is to find elsewhere.
    """
    around = replace(system.around, services={**system.around.services, **addresses})
    environ = {
        "OTEL_SERVICE_NAME": name,
        "OTEL_PROPAGATORS": "tracecontext,baggage,xtrace",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{system.url(VIEWER)}/v1/traces",
    }
    command = [sys.executable, "-m", "example_app", "--service", name]
    with subprocess.Popen(
        command,
        env={**os.environ, **environ, **around.environment()},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().strip() == READY
            yield process
        finally:
            process.kill()
