"""A service on a real WSGI server."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waitress.server import create_server
from waitress.trigger import trigger
from waitress.wasyncore import close_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed.wsgi import WSGIApplication

# At the start it counts threads that do not run yet as busy, and warns of a queue.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)


THREADS = 8
CONNECTIONS = 500
"""Open at once; each exporter, and each neighbour's worker, keeps some open."""


@contextmanager
def serving(app: WSGIApplication, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Serve `app` with waitress on threads of this process, for as long as the block lasts.

    Requests under way are let finish, so after the block every span has ended.

    :param host: the address to listen on.
    :param port: the port, 0 for any free one.
    :yields: the service's URL, without a slash at its end.
    :raises OSError: the address cannot be listened on, for one because the port is taken.
    """
    sockets: dict[int, object] = {}
    # Bound here, because waitress leaves threads and files behind when it cannot bind.
    # Several may listen, as whoever runs the services holds their ports reserved.
    listening = socket.create_server((host, port), reuse_port=True)
    server = create_server(
        app, map=sockets, sockets=[listening], threads=THREADS, connection_limit=CONNECTIONS
    )
    stop = trigger(sockets)
    loop = threading.Thread(target=server.run, name="waitress")
    loop.start()
    try:
        yield f"http://{host}:{server.effective_port}"
    finally:
        server.task_dispatcher.shutdown()
        # The loop ends when it has no sockets left; only its own thread may take them away.
        stop.pull_trigger(lambda: close_all(sockets))
        loop.join()
