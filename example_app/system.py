"""All services as processes, each started again when it ends by itself."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from example_app.bootstrap import (
    BODYTRACE,
    FULFILMENT,
    GATEWAY,
    INVENTORY,
    INVENTORY_GRPC,
    NOBODY,
    ORDERS,
    PAYMENTS,
    SERVICES,
    VIEWER,
    Surroundings,
)
from example_app.engines import Engines
from example_app.orders.admission import most_waiting
from example_app.process import READY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PORTS = {
    GATEWAY: 8000,
    ORDERS: 8001,
    INVENTORY: 8002,
    PAYMENTS: 8003,
    FULFILMENT: 8004,
    INVENTORY_GRPC: 8005,
    VIEWER: 4318,
}
ANY_PORTS = dict.fromkeys(PORTS, 0)
_START_S, _STOP_S = 120.0, 15.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.2, 10.0
_CRASH_S = 5.0
"""A service that ends so soon after it was started is in a crash loop: the pauses grow."""

_log = logging.getLogger(__name__)


class NotStarted(Exception):
    """A service does not start, and has said why on standard error; or a setting is wrong."""


class System:
    """The services of one system, and where they are.

    :param workers: how many gunicorn has for each service; 0 for one process without gunicorn. The
        viewer is always that: it keeps traces in its memory.
    """

    def __init__(self, around: Surroundings, workers: int = 0) -> None:
        self.around = around
        self._services = {
            name: _Service(name, around, 0 if name == VIEWER else workers) for name in SERVICES
        }

    def url(self, service: str) -> str:
        """Return a service's URL."""
        return self.around.services[service]

    def pid(self, service: str) -> int:
        """Return the id of a service's process, as long as that lives."""
        return self._services[service].process.pid

    def kill(self, service: str) -> None:
        """End a service with SIGKILL, as a crash would; it is started again."""
        self._services[service].kill()

    def hold(self, service: str) -> None:
        """Kill a service, and leave it so until `resume`."""
        self._services[service].hold()

    def resume(self, service: str) -> None:
        """Start a service that is held; return once it takes requests."""
        self._services[service].start()

    def wait_until_ready(self) -> None:
        """Return once every service takes requests; `NotStarted` if one does not."""
        for service in self._services.values():
            service.wait_until_ready()

    def start(self) -> None:
        """Start all; `NotStarted` if one does not start."""
        for service in self._services.values():
            service.start(wait=False)
        self.wait_until_ready()

    def stop(self) -> None:
        """Stop all: first the gateway, so that orders are finished, last the viewer."""
        services = self._services
        inner = [service for name, service in services.items() if name not in {GATEWAY, VIEWER}]
        for together in ([services[GATEWAY]], inner, [services[VIEWER]]):
            for service in together:
                service.terminate()
            for service in together:
                service.wait_until_stopped()


@contextmanager
def running(
    data: Path,
    ports: Mapping[str, int] = ANY_PORTS,
    host: str = "127.0.0.1",
    *,
    workers: int = 0,
    tracing: str = BODYTRACE,
) -> Iterator[System]:
    """Run all services for as long as the block lasts.

    :param data: the folder of all their files; made if it is not there.
    :param ports: by service, 0 for any free one.
    :param workers: of gunicorn, for each service; 0 is without gunicorn.
    :param tracing: who makes spans.
    :raises OSError: a port cannot be had.
    :raises NotStarted: a service does not start, or a setting is wrong.
    """
    with ExitStack() as reservations:
        services = {}
        for name, wanted in ports.items():
            port = reservations.enter_context(_reserved(host, wanted))
            services[name] = f"{host}:{port}" if name == INVENTORY_GRPC else f"http://{host}:{port}"
        data.mkdir(parents=True, exist_ok=True)
        key = os.environ.get("EXAMPLE_PAYMENT_KEY") or secrets.token_urlsafe()
        try:
            engines = Engines.from_environment()
            most = most_waiting(os.environ)
        except ValueError as error:
            raise NotStarted(str(error)) from None
        around = Surroundings(
            data,
            services,
            key.encode(),
            engines=engines,
            tracing=tracing,
            most_waiting=most,
        )
        system = System(around, workers)
        try:
            system.start()
            yield system
        finally:
            system.stop()


@contextmanager
def _reserved(host: str, port: int) -> Iterator[int]:
    """Keep a port from others, and let our services listen on it, again and again."""
    # Sharing is for those who ask for it: this one fails if any other system is running.
    try:
        probe = socket.create_server((host, port))
    except OSError as error:
        hint = f"port {port} cannot be had ({error.strerror}): --any-ports takes free ones"
        raise OSError(error.errno, hint) from error
    with probe:
        port = probe.getsockname()[1]
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
        yield port


class _Service:
    """One service's process, and the thread that starts it again."""

    def __init__(self, name: str, around: Surroundings, workers: int) -> None:
        self.name = name
        self.process: subprocess.Popen[str]
        self._around = around
        self._workers = workers
        self._wanted = False
        self._changed = threading.Condition()
        self._ready = False
        self._over = False
        self._thread: threading.Thread | None = None

    def start(self, *, wait: bool = True) -> None:
        self._wanted, self._over = True, False
        self._thread = threading.Thread(target=self._supervise, name=f"supervise {self.name}")
        self._thread.start()
        if wait:
            self.wait_until_ready()

    def wait_until_ready(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._over, _START_S)
            if not self._ready:
                raise NotStarted(f"{self.name} does not start")

    def kill(self) -> None:
        # Not ready from now on, not only once its end was noticed.
        with self._changed:
            self._ready = False
        self.process.kill()

    def hold(self) -> None:
        self._stop_wanting()
        self.kill()
        self._join()

    def _stop_wanting(self) -> None:
        with self._changed:
            self._wanted = False
            self._changed.notify_all()

    def terminate(self) -> None:
        self._stop_wanting()
        if self._thread is not None:
            # Before it takes requests it may not take signals either.
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._over, _START_S)
            self.process.terminate()

    def wait_until_stopped(self) -> None:
        if self._thread is not None:
            self._thread.join(_STOP_S)
            if self._thread.is_alive():
                self.process.kill()
            self._join()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _supervise(self) -> None:
        first = True
        pause = _FIRST_PAUSE_S
        while self._wanted:
            started = time.monotonic()
            came_up = self._run()
            is_loop = time.monotonic() - started < _CRASH_S
            pause = min(2 * pause, _LONGEST_PAUSE_S) if is_loop else _FIRST_PAUSE_S
            with self._changed:
                # One that does not come up at first will not do so later.
                self._wanted = self._wanted and (came_up or not first)
                self._ready, first = False, False
                if self._wanted:
                    status = self.process.returncode
                    _log.warning("%s ended (%s): started again in %.1f s", self.name, status, pause)
                    self._changed.wait_for(lambda: not self._wanted, pause)
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def _run(self) -> bool:
        """Run the process until it ends; return whether it took requests."""
        # In a session of its own, as Ctrl-C is for us, who stop them in order.
        with subprocess.Popen(  # noqa: S603 - the command is our own
            [
                *(sys.executable, "-m", "example_app", "--service", self.name, "--with-parent"),
                *("--workers", str(self._workers)),
            ],
            env=self._environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            self.process = process
            came_up = process.stdout is not None and process.stdout.readline().strip() == READY
            if came_up:
                with self._changed:
                    self._ready = True
                    self._changed.notify_all()
            process.wait()
            return came_up

    def _environment(self) -> dict[str, str]:
        ours = {
            "OTEL_SERVICE_NAME": self.name,
            "OTEL_PROPAGATORS": "tracecontext,baggage,xtrace",
            "OTEL_BSP_SCHEDULE_DELAY": "500",
        }
        if self._around.tracing == NOBODY:
            ours["OTEL_SDK_DISABLED"] = "true"
        if self.name == VIEWER:
            ours["OTEL_TRACES_EXPORTER"] = "none"
        elif not any(name.startswith("OTEL_EXPORTER_OTLP_") for name in os.environ):
            viewer = self._around.services[VIEWER]
            ours["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"] = f"{viewer}/v1/traces"
        return {**ours, **os.environ, **self._around.environment(), "OTEL_SERVICE_NAME": self.name}
