"""`python -m example_app` as the program it is."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

from example_app.bootstrap import ORDERS
from example_app.system import ANY_PORTS, running

COMMAND = [sys.executable, "-W", "error", "-m", "example_app"]


def environment() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OTEL_", "FLASK_", "EXAMPLE_"))
    }


@contextmanager
def started(data: Path) -> Iterator[tuple["subprocess.Popen[str]", dict[str, str]]]:
    """The system, once it takes requests, and the addresses that it prints."""
    with subprocess.Popen(
        [*COMMAND, "--any-ports", "--data", str(data)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            while "Ctrl-C" not in printed:
                line = process.stdout.readline()
                assert line, process.communicate()
                printed += line
            yield process, dict(re.findall(r"^(\S+) +(\S+:\d+)$", printed, re.MULTILINE))
        finally:
            process.kill()


@pytest.mark.slow
def test_it_runs_until_it_is_stopped_and_leaves_no_process(tmp_path: Path) -> None:
    with started(tmp_path) as (process, urls):
        assert len(urls) == 7
        assert httpx.get(f"{urls['gateway']}/orders/A1", trust_env=False).status_code == 404
        services = psutil.Process(process.pid).children()
        assert len(services) == 6
        # Once to stop it, and more out of impatience.
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)
        _, complaints = process.communicate(timeout=120)
        assert complaints == ""
        assert process.returncode == 0
        assert not any(service.is_running() for service in services)


def test_services_end_when_whoever_started_them_is_killed(tmp_path: Path) -> None:
    with started(tmp_path) as (process, _):
        services = psutil.Process(process.pid).children()
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(services, timeout=120)
    assert len(gone) == 6
    assert alive == []


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=rf"port {port} .*in use.*--any-ports"),
            running(tmp_path, {**ANY_PORTS, ORDERS: port}),
        ):
            pass


@pytest.mark.slow
def test_a_service_that_does_not_start_is_said(tmp_path: Path) -> None:
    (tmp_path / "orders").touch()
    run = subprocess.run(
        [*COMMAND, "--any-ports", "--data", str(tmp_path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )

    assert run.returncode == 1
    assert "cannot run: orders does not start" in run.stderr
