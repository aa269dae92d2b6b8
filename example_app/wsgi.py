"""Each service as a WSGI application, for a server with several workers.

    gunicorn -c python:example_app.gunicorn_config -b 0.0.0.0:8001 example_app.wsgi:orders

The names are `gateway`, `orders`, `inventory`, `payments` and `fulfilment`; the environment
variables are those of `Surroundings`. The service is put together when a server asks for the name,
in each worker. Its loops run in one of them (`duty`).
"""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING

from example_app.bootstrap import SERVICES, VIEWER, Surroundings
from example_app.metrics.exposition import Exposition
from example_app.process import named, quiet_log
from example_app.stopping import STOP_S, end_within

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

# The viewer keeps traces in its memory, so several workers would each have some of them.
NAMES = tuple(name for name in SERVICES if name != VIEWER)
_services: dict[str, Service] = {}


class Service:
    """A service that lives as long as this process's main thread."""

    def __init__(self, name: str) -> None:
        named(name)
        quiet_log(name)
        self._pid = os.getpid()
        self._parts = ExitStack()
        metrics = Exposition()
        around = Surroundings.from_environment()
        # Python waits for all threads before it calls what is registered with atexit, so those of
        # the service have to be told before; also if it comes up in part only.
        threading.Thread(target=self._stop_at_the_end, name=f"stop {name}").start()
        end_within(STOP_S, after=threading.main_thread().join)
        app = self._parts.enter_context(SERVICES[name](around))
        self._app: WSGIApplication = metrics.beside(app)
        self._parts.enter_context(around.announced(name))

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a request."""
        if os.getpid() != self._pid:
            raise RuntimeError(
                f"made in process {self._pid}, and forked since: its threads are not here. Let "
                "each worker make its own: gunicorn without --preload"
            )
        return self._app(environ, start_response)

    def _stop_at_the_end(self) -> None:
        threading.main_thread().join()
        self._parts.close()


def __getattr__(name: str) -> Service:
    """Return the service of this name."""
    if name not in NAMES:
        raise AttributeError(f"{__name__} has no {name!r}: there are {', '.join(sorted(NAMES))}")
    if name not in _services:
        _services[name] = Service(name)
    return _services[name]
