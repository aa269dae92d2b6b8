"""One service as a process of its own; its port is that of its address."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

from example_app.bootstrap import SERVICES, Surroundings
from example_app.serving import serving
from example_app.stopping import stop_signals

READY = "ready"
"""The line printed once the service takes requests."""


def run(name: str, *, with_parent: bool) -> int:
    """Run the service `name` until a signal; the exit status.

    :param with_parent: whether to end with whoever started us, which shows by the end of standard
        input. In a container that is closed from the start, and means nothing.
    """
    logging.basicConfig(
        level=logging.WARNING,
        format=f"{name}: %(levelname)s %(message)s trace=%(otelTraceID)s",
        handlers=[_Handler()],
    )
    around = Surroundings.from_environment()
    with stop_signals() as stop_signal:
        if with_parent:
            threading.Thread(target=_until_abandoned, name="abandoned", daemon=True).start()
        with SERVICES[name](around) as app, serving(app, *around.listening(name)):
            print(READY, flush=True)
            stop_signal()
    return 0


def _until_abandoned() -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg] # not generic before Python 3.11
    """To standard error; records from before tracing have no trace."""

    def emit(self, record: logging.LogRecord) -> None:
        record.__dict__.setdefault("otelTraceID", "-")
        super().emit(record)
