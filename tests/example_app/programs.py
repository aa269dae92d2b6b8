"""Real servers: found, or skipped with what to install; started, and waited for."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from _pytest.mark.structures import ParameterSet

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flask_bodytrace" / "bin"
_BESIDE = Path(sys.executable).parent
_WAIT_S = 120.0
"""Far longer than anything takes, also on a busy machine: only a failure waits so long."""


def needed(name: str, install: str) -> str:
    """Return the path of a program: of the cache, this environment, or the machine.

    Without it the test is one `without` it.

    :param install: the command that brings it here.
    """
    for folder in (CACHE, _BESIDE):
        if (folder / name).exists():
            return str(folder / name)
    found = shutil.which(name)
    if found is None:
        without(name, f"{name} is not there: {install}")
    return found


def without(name: str, missing: str) -> NoReturn:
    """Skip the test, or fail on CI, unless `.ci/run` has said that `name` cannot be had."""
    if os.environ.get("CI") and name not in os.environ.get("CI_WITHOUT", "").split():
        pytest.fail(missing)
    pytest.skip(missing)


def slow(*engines: str) -> list[ParameterSet]:
    """Parameters of a fixture that starts real engines: they are for `make test-all` and CI."""
    return [pytest.param(each, marks=pytest.mark.slow) for each in engines]


@contextmanager
def started(
    command: Sequence[str], log: Path, is_ready: Callable[[], bool], **environ: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server for as long as the block lasts.

    :param log: the file of what it writes, shown where it does not come up.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env={**os.environ, **environ}
        )
    try:
        until(is_ready, lambda: f"{command[0]} is not ready:\n{log.read_text()[-3000:]}", process)
        yield process
    finally:
        # None of them keeps anything; some take their time to say goodbye.
        process.kill()
        process.wait()


def until(
    is_so: Callable[[], bool],
    problem: Callable[[], str],
    process: subprocess.Popen[bytes] | None = None,
    wait_s: float = _WAIT_S,
) -> None:
    """Return once it is so; fail with the problem after a while, or once the process ended."""
    deadline = time.monotonic() + wait_s
    while not is_so():
        if time.monotonic() > deadline or (process and process.poll() is not None):
            pytest.fail(problem())
        time.sleep(0.02)
