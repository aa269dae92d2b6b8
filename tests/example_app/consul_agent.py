"""A real Consul agent, started for the tests that need one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx

from tests.body.servers import free_port
from tests.example_app.programs import needed, started

if TYPE_CHECKING:
    from pathlib import Path

_INSTALL = "bash example_app/deploy/get_servers consul"


class Consul:
    """One agent, that can be killed and started again on the same ports.

    :param folder: of its log; it keeps nothing else.
    """

    def __init__(self, folder: Path) -> None:
        self._program = needed("consul", _INSTALL)
        self._folder = folder
        self._ports = {name: free_port() for name in ("http", "serf-lan", "server")}
        self._running = ExitStack()
        self.url = f"consul://127.0.0.1:{self._ports['http']}"
        self._http = f"http://127.0.0.1:{self._ports['http']}/v1"

    def start(self) -> None:
        """Start it; returns once it answers, knowing nobody."""
        off = ("grpc", "grpc-tls", "dns", "serf-wan")
        command = [self._program, "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1"]
        command += [f"-{name}-port={port}" for name, port in self._ports.items()]
        command += [f"-{name}-port=-1" for name in off]
        self._running.enter_context(started(command, self._folder / "consul.log", self._has_leader))

    def kill(self) -> None:
        """Kill it at once."""
        self._running.close()

    def ask(self, path: str) -> object:
        """Return what it answers to a GET of its API."""
        return httpx.get(self._http + path, trust_env=False).json()

    def healthy(self, service: str) -> set[int]:
        """The ports of the instances that take requests, as anyone sees them."""
        found = self.ask(f"/health/service/{service}?passing=true")
        assert isinstance(found, list)
        return {entry["Service"]["Port"] for entry in found}

    def _has_leader(self) -> bool:
        try:
            return bool(self.ask("/status/leader"))
        except httpx.TransportError:
            return False
