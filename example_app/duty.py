"""What exactly one of a service's processes does: the one that holds the lock of a file.

The system lets go of the lock when its holder dies, however it dies, and the next one takes it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from example_app.events.state import LoopState

_LOOK_EVERY_S = 0.2
_log = logging.getLogger(__name__)


class Report(msgspec.Struct, frozen=True):
    """How the loops of a service are doing.

    :ivar pid: the process that they run in; 0 if they run in none.
    :ivar loops: what each shows, by name.
    """

    pid: int = 0
    loops: dict[str, dict[str, Any]] = {}


class Duty:
    """Loops that run in one of the processes that have `lock` in common.

    :param lock: the file; made if it is not there. How the loops are doing is kept beside it, so
        that each of the processes can tell.
    :param work: runs the loops for as long as its block lasts; called in the process whose turn it
        is, and not before, as they begin with what the last one has left.
    """

    def __init__(
        self, lock: Path, work: Callable[[], AbstractContextManager[Mapping[str, LoopState]]]
    ) -> None:
        self._lock = lock
        self._kept = lock.with_suffix(".json")
        self._work = work
        self._stop = threading.Event()
        self._states: Mapping[str, LoopState] | None = None
        self._told: Report | None = None

    @property
    def is_here(self) -> bool:
        """Whether the loops run in this process."""
        return self._states is not None

    @contextmanager
    def running(self) -> Iterator[None]:
        """Be ready for the turn for as long as the block lasts.

        Where no other process is, the loops run from the start; what keeps them from that is
        raised. Where it does so later, it is logged, and tried again.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(self._lock, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with ExitStack() as loops:
                self._take(file, loops)
                watching = threading.Thread(target=self._watch, args=(file, loops), name="duty")
                watching.start()
                try:
                    yield
                finally:
                    self._stop.set()
                    watching.join()
        finally:
            self._states = None
            # Only now may another one take the lock: the loops have ended.
            os.close(file)

    def report(self) -> Report:
        """Return how the loops are doing, wherever they run."""
        states = self._states
        if states is not None:
            return Report(os.getpid(), {name: state.shown() for name, state in states.items()})
        try:
            return msgspec.json.decode(self._kept.read_bytes(), type=Report)
        except (OSError, msgspec.DecodeError):
            return Report()

    def _watch(self, file: int, loops: ExitStack) -> None:
        while not self._stop.wait(_LOOK_EVERY_S):
            try:
                if self._states is None:
                    self._take(file, loops)
                else:
                    self._tell()
            except Exception:  # noqa: BLE001 - whatever it is, another turn may come
                _log.exception("the loops are not taken over, or not reported on: tried again")

    def _take(self, file: int, loops: ExitStack) -> None:
        """Take the turn and begin, unless it is another one's."""
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        try:
            self._states = loops.enter_context(self._work())
        except BaseException:
            fcntl.flock(file, fcntl.LOCK_UN)
            raise
        self._tell()

    def _tell(self) -> None:
        """Keep how the loops are doing, for the other processes to read."""
        report = self.report()
        if report != self._told:
            # A file is replaced as a whole or not at all; nobody else writes this one.
            written = self._kept.with_suffix(".new")
            written.write_bytes(msgspec.json.encode(report))
            written.replace(self._kept)
            self._told = report
