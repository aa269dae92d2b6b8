"""A Redis Cluster of three primaries and three replicas, started for the tests that need one."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tests.body.servers import free_port
from tests.example_app.programs import needed, started, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

_INSTALL = "apt-get install redis-server"


class Cluster:
    """The servers, by port."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self._folder = folder
        self._running = running
        self._program = needed("redis-server", _INSTALL)
        self.cli = needed("redis-cli", _INSTALL)
        self._bus_ports: dict[int, int] = {}
        self._servers: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def url(self) -> str:
        """What names the cluster: all its servers."""
        return url_of(self._servers)

    def ask(self, port: int, *command: str) -> str:
        """Return what a server answers to a command; empty if it does not."""
        done = subprocess.run(
            [self.cli, "-p", str(port), *command], capture_output=True, text=True, check=False
        )
        return done.stdout

    def answers(self, port: int) -> bool:
        """Whether a server is up."""
        return "PONG" in self.ask(port, "ping")

    def start(self, port: int) -> None:
        """Start a server, or start it again.

        It keeps nothing, so one that was a primary must be started only once its replica has taken
        over: else all that it had is gone.
        """
        place = self._folder / str(port)
        place.mkdir(exist_ok=True)
        bus_port = self._bus_ports.setdefault(port, free_port())
        command = [
            *(self._program, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)),
            *("--cluster-enabled", "yes", "--cluster-port", str(bus_port)),
            *("--cluster-node-timeout", "1000", "--repl-diskless-sync-delay", "0"),
            *("--save", "", "--appendonly", "no"),
        ]
        process = started(command, place / "log", partial(self.answers, port))
        self._servers[port] = self._running.enter_context(process)

    def primary_of(self, key: str) -> int:
        """Return the port of the server that has `key`, as one that is up says."""
        alive = next(port for port, process in self._servers.items() if process.poll() is None)
        slot = int(self.ask(alive, "cluster", "keyslot", key))
        for line in self.ask(alive, "cluster", "nodes").splitlines():
            _, address, flags, *_ = line.split()
            ranges = [each.split("-") for each in line.split()[8:]]
            if "master" in flags and any(int(low[0]) <= slot <= int(low[-1]) for low in ranges):
                return int(address.partition("@")[0].rpartition(":")[2])
        raise AssertionError(f"no primary has {key}")

    def kill_primary_of(self, key: str) -> int:
        """Kill the server that has `key`, at once; return its port."""
        port = self.primary_of(key)
        self._servers[port].kill()
        self._servers[port].wait()
        return port

    def is_ready(self) -> bool:
        """Whether every slot has a primary, and every replica what its primary has."""
        return all(
            "cluster_state:ok" in self.ask(port, "cluster", "info")
            and "cluster_known_nodes:6" in self.ask(port, "cluster", "info")
            and (
                "role:master" in (told := self.ask(port, "info", "replication"))
                or "master_link_status:up" in told
            )
            for port in self._servers
        )


def url_of(ports: Iterable[int]) -> str:
    """Return what names servers of a cluster, for `EXAMPLE_CACHE_SERVER`."""
    return "redis://" + ",".join(f"127.0.0.1:{port}" for port in ports)


@contextmanager
def cluster(folder: Path, ports: Sequence[int] = ()) -> Iterator[Cluster]:
    """Run a cluster for as long as the block lasts.

    :param ports: of its six servers; any where there are none.
    """
    with ExitStack() as running:
        made = Cluster(folder, running)
        ports = ports or [free_port() for _ in range(6)]
        for port in ports:
            made.start(port)
        addresses = [f"127.0.0.1:{port}" for port in ports]
        subprocess.run(
            [
                *(made.cli, "--cluster", "create", *addresses),
                *("--cluster-replicas", "1", "--cluster-yes"),
            ],
            check=True,
            capture_output=True,
        )
        until(made.is_ready, lambda: made.ask(ports[0], "cluster", "nodes"))
        yield made
