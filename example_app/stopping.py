"""Ctrl-C and SIGTERM as something to wait for, so that they interrupt nothing."""

from __future__ import annotations

import signal
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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
