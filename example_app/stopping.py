"""Stopping: Ctrl-C and SIGTERM as something to wait for, and an end to waiting for the rest."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STOP_S = 3
"""Seconds that an orderly stop may take; five are promised."""

_log = logging.getLogger(__name__)


@contextmanager
def stop_signals() -> Iterator[Callable[[], object]]:
    """Catch both signals inside the block, and ignore them after it: the program is ending then.

    An exception would end the orderly stop half-way when a second signal comes. A socket wakes the
    main thread also where the system hands the signal to another one.

    :yields: a function that returns once a signal has come.
    """
    waiting, waking = socket.socketpair()
    waking.setblocking(False)
    with waiting, waking:
        signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda _number, _frame: None)
        try:
            yield lambda: waiting.recv(1)
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)


def end_within(seconds: float, after: Callable[[], object] | None = None) -> None:
    """Let this process end in its own way for so long, and then end it.

    What holds it up may be a neighbour that does not answer. The services are made to be killed at
    any moment, so this loses nothing but spans.

    :param after: returns when that time begins; by default it begins now.
    """
    # Once the main thread has ended, some releases of Python start no thread any more (gh-113964).
    threading.Thread(target=_end, args=(seconds, after), name="last call", daemon=True).start()


def _end(seconds: float, after: Callable[[], object] | None) -> None:
    if after is not None:
        after()
    time.sleep(seconds)
    held_up = sorted(
        thread.name
        for thread in threading.enumerate()
        if not thread.daemon and thread is not threading.main_thread()
    )
    _log.warning("ended before it has stopped; these threads run still: %s", held_up)
    os._exit(1)
