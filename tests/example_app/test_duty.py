"""What exactly one of several processes does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from example_app.duty import Duty
from example_app.events.state import LoopState
from tests.example_app.programs import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

HOLDER = """
import sys
from contextlib import nullcontext
from pathlib import Path
from example_app.duty import Duty
with Duty(Path(sys.argv[1]), lambda: nullcontext({})).running():
    print("held", flush=True)
    sys.stdin.read()
"""


class Work:
    """One loop, and whether it runs."""

    def __init__(self) -> None:
        self.state = LoopState({})
        self.began = threading.Event()
        self.ended = threading.Event()

    @contextmanager
    def __call__(self) -> Iterator[Mapping[str, LoopState]]:
        self.state.running()
        self.began.set()
        try:
            yield {"events": self.state}
        finally:
            self.ended.set()


def test_one_works_from_the_start_and_the_next_once_it_has_ended(tmp_path: Path) -> None:
    lock, first, second = tmp_path / "locks" / "a.lock", Work(), Work()
    other = Duty(lock, second)
    with Duty(lock, first).running():
        assert first.began.is_set()
        with other.running():
            assert not other.is_here
            assert not second.began.wait(0.5), "two looks later it is still the other one's turn"
            assert not first.ended.is_set()
    with other.running():
        assert first.ended.is_set()
        assert second.began.is_set()
        assert other.is_here


def test_another_takes_over_while_it_waits(tmp_path: Path) -> None:
    lock, first, second = tmp_path / "a.lock", Work(), Work()
    holding = Duty(lock, first).running()
    holding.__enter__()
    with Duty(lock, second).running():
        assert not second.began.is_set()
        holding.__exit__(None, None, None)
        assert second.began.wait(120)
        assert first.ended.is_set(), "before the second began"


def test_one_that_is_killed_passes_it_on(tmp_path: Path) -> None:
    lock, work = tmp_path / "a.lock", Work()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with Duty(lock, work).running():
            assert not work.began.wait(0.5)
            holder.send_signal(signal.SIGKILL)
            assert work.began.wait(120)


def test_each_can_tell_how_the_loops_are_doing(tmp_path: Path) -> None:
    lock, work = tmp_path / "a.lock", Work()
    idle = Duty(lock, Work())
    assert idle.report().loops == {}
    with Duty(lock, work).running(), idle.running():
        assert idle.report().pid == os.getpid()
        assert idle.report().loops["events"]["state"] == "running"
        work.state.backing_off("polling", OSError())

        def told() -> object:
            return idle.report().loops["events"]["state"]

        until(lambda: told() == "backing off", lambda: str(told()))


def test_what_keeps_it_from_working_is_raised_and_lets_go_of_the_lock(tmp_path: Path) -> None:
    lock, work = tmp_path / "a.lock", Work()

    def broken() -> Any:
        raise OSError("no bus")

    with pytest.raises(OSError, match="no bus"), Duty(lock, broken).running():
        pass
    with Duty(lock, work).running():
        assert work.began.is_set()


def test_one_that_cannot_take_over_tries_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lock, work, tries = tmp_path / "a.lock", Work(), []

    @contextmanager
    def shaky() -> Iterator[Mapping[str, LoopState]]:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("no bus")
        with work() as states:
            yield states

    holding = Duty(lock, Work()).running()
    holding.__enter__()
    with Duty(lock, shaky).running():
        holding.__exit__(None, None, None)
        assert work.began.wait(120)
    assert "no bus" in caplog.text
