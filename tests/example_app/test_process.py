"""One service alone, as in a container."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import requests

from example_app.bootstrap import FULFILMENT, Surroundings
from example_app.process import READY
from tests.body.servers import free_port
from tests.example_app.services import environment

if TYPE_CHECKING:
    from pathlib import Path


def start(around: Surroundings, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "example_app", "--service", FULFILMENT, *more],
        env=environment(around),
        stdin=subprocess.DEVNULL if not more else subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_it_listens_where_it_is_told_and_outlives_an_empty_standard_input(tmp_path: Path) -> None:
    port = free_port()
    # Others reach it by a name that is not its own machine's.
    address = f"http://fulfilment.shop.example:{port}"
    around = Surroundings(tmp_path, {FULFILMENT: address}, b"key", bind="127.0.0.1")
    with start(around) as process:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == READY
        assert requests.get(f"http://127.0.0.1:{port}/health", timeout=60).json()["status"] == "ok"
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(120) == 0


def test_it_ends_with_whoever_started_it_if_told_so(tmp_path: Path) -> None:
    around = Surroundings(tmp_path, {FULFILMENT: f"http://127.0.0.1:{free_port()}"}, b"key")
    with start(around, "--with-parent") as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline().strip() == READY
        process.stdin.close()
        assert process.wait(120) == 0


WORKERS_SAY_READY = """
import os
from example_app.process import say_ready
for _ in range(8):
    if os.fork() == 0:
        for _ in range(200):
            say_ready()
        os._exit(0)
for _ in range(8):
    os.wait()
"""


def test_workers_that_share_a_pipe_do_not_get_into_each_others_lines() -> None:
    run = subprocess.run(
        [sys.executable, "-c", WORKERS_SAY_READY],
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    assert run.stdout.splitlines() == [READY] * 1600


def test_an_address_with_or_without_a_scheme(tmp_path: Path) -> None:
    services = {"a": "http://a.example:81", "b": "b.example:82"}
    plain = Surroundings(tmp_path, services, b"key")
    assert plain.listening("a") == ("a.example", 81)
    assert plain.listening("b") == ("b.example", 82)
    bound = Surroundings(tmp_path, services, b"key", bind="0.0.0.0", most_waiting=7)  # noqa: S104
    assert bound.listening("b") == ("0.0.0.0", 82)  # noqa: S104
    assert Surroundings.from_environment(bound.environment()) == bound
