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
    """Catch both signals inside the block, also while what it started is being stopped.

    An exception would end the orderly stop half-way when a second signal comes. A socket wakes the
    main thread also where the system hands the signal to another one.

    :yields: a function that returns once a signal has come.
    """
    waiting, waking = socket.socketpair()
    waking.setblocking(False)
    with waiting, waking:
        previous_descriptor = signal.set_wakeup_fd(waking.fileno(), warn_on_full_buffer=False)
        previous_handlers = {
            number: signal.signal(number, lambda _number, _frame: None)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield lambda: waiting.recv(1)
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(previous_descriptor)
