"""One service as a process of its own; its port is that of its address."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from typing import NoReturn

from example_app.bootstrap import SERVICES, Surroundings
from example_app.metrics.exposition import Exposition
from example_app.serving import serving
from example_app.stopping import STOP_S, end_within, stop_signals

READY = "ready"
"""The line printed once the service takes requests."""

WITH_PARENT = "EXAMPLE_WITH_PARENT"
"""The environment variable that tells gunicorn's workers to end with whoever started it."""


def run(name: str, *, with_parent: bool, workers: int = 0) -> int:
    """Run the service `name` until a signal; the exit status.

    :param with_parent: whether to end with whoever started us, which shows by the end of standard
        input. In a container that is closed from the start, and means nothing.
    :param workers: how many gunicorn is to have; 0 for this one process.
    """
    if workers:
        become_gunicorn(name, workers, with_parent=with_parent)
    named(name)
    quiet_log(name)
    around = Surroundings.from_environment()
    with stop_signals() as stop_signal:
        if with_parent:
            threading.Thread(target=_end_abandoned, name="abandoned", daemon=True).start()
        metrics = Exposition()
        with (
            SERVICES[name](around) as app,
            serving(metrics.beside(app), *around.listening(name)),
            around.announced(name),
        ):
            say_ready()
            stop_signal()
            end_within(STOP_S)
    return 0


def say_ready() -> None:
    """Tell whoever has started us that requests are taken.

    In one write: workers share the pipe, and with PYTHONUNBUFFERED `print` writes the line's end
    apart, so that another worker's line gets between.
    """
    os.write(sys.stdout.fileno(), f"{READY}\n".encode())


def named(name: str) -> None:
    """Let the spans of this process have the name of its service, unless they have one."""
    os.environ.setdefault("OTEL_SERVICE_NAME", name)


def quiet_log(name: str) -> None:
    """Log warnings and errors to standard error, with the trace that each belongs to."""
    logging.basicConfig(
        level=logging.WARNING,
        format=f"{name}: %(levelname)s %(message)s trace=%(otelTraceID)s",
        handlers=[_Handler()],
    )


def become_gunicorn(name: str, workers: int, *, with_parent: bool) -> NoReturn:
    """Go on as gunicorn's first process, of the same id; its port may be held reserved."""
    host, port = Surroundings.from_environment().listening(name)
    command = [
        *(sys.executable, "-m", "gunicorn", "-c", "python:example_app.gunicorn_config"),
        *("--workers", str(workers), "--bind", f"{host}:{port}", "--reuse-port"),
        f"example_app.wsgi:{name}",
    ]
    environ = {**os.environ, **({WITH_PARENT: "1"} if with_parent else {})}
    os.execve(sys.executable, command, environ)  # noqa: S606 - the command is our own


def until_abandoned(standard_input: int) -> None:
    """Return once whoever has started us is gone, which ends our standard input."""
    while os.read(standard_input, 1024):
        pass


def _end_abandoned() -> None:
    until_abandoned(sys.stdin.fileno())
    os.kill(os.getpid(), signal.SIGTERM)


class _Handler(logging.StreamHandler):  # type: ignore[type-arg] # not generic before Python 3.11
    """To standard error; records from before tracing have no trace."""

    def emit(self, record: logging.LogRecord) -> None:
        record.__dict__.setdefault("otelTraceID", "-")
        super().emit(record)
