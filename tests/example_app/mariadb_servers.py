"""MariaDB servers, started for the tests that need them."""

from __future__ import annotations

import subprocess
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pymysql

from tests.body.servers import free_port
from tests.example_app.programs import needed, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_INSTALL = "apt-get install mariadb-server"


class Server:
    """One server, which can be killed and started again on the same data."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = free_port()
        self._running = ExitStack()
        install = needed("mariadb-install-db", _INSTALL)
        made = subprocess.run(
            [
                *(install, "--no-defaults", f"--datadir={folder}", "--user=root"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
            ],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert made.returncode == 0, made.stdout

    @property
    def url(self) -> str:
        """Where it is, for `EXAMPLE_DATABASES`."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; returns once it answers."""
        command = [
            *(needed("mariadbd", _INSTALL), "--no-defaults", "--user=root"),
            *(f"--datadir={self._folder}", f"--port={self.port}", "--bind-address=127.0.0.1"),
            *(f"--socket={self._folder}/s.sock", "--innodb-buffer-pool-size=64M"),
            # What a server has written outlives `kill -9` of it; tests cut no power.
            "--innodb-flush-method=nosync",
        ]
        log = self._folder.with_suffix(".log")
        self._running.enter_context(started(command, log, self._answers))

    def _answers(self) -> bool:
        return bool(self.ask("SELECT 1"))

    def kill(self) -> None:
        """Kill it at once."""
        self._running.close()

    def ask(self, query: str, database: str | None = None) -> Sequence[Sequence[object]]:
        """Return what it answers; nothing if it does not."""
        try:
            connection = pymysql.connect(
                host="127.0.0.1", port=self.port, user="root", database=database
            )
        except pymysql.OperationalError:
            return ()
        with connection, connection.cursor() as cursor:
            cursor.execute(query)
            return cursor.fetchall()


@contextmanager
def servers(folder: Path) -> Iterator[Sequence[Server]]:
    """Run two servers for as long as the block lasts."""
    made = [Server(folder / name) for name in ("one", "two")]
    try:
        for server in made:
            server.start()
        yield made
    finally:
        for server in made:
            server.kill()
