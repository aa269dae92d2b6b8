"""The order system on real engines under load, while engines and services are killed.

    python -m tests.example_app.drill --seconds 600 --kills 20

It starts Kafka, a Redis Cluster and two MariaDB servers, drives ``python -m example_app --load``
with the arguments given, and kills one engine after the other with SIGKILL. It ends as the load
does: with 1 where an order was lost or doubled.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from tests.example_app.brokers import Kafka
from tests.example_app.mariadb_servers import servers
from tests.example_app.redis_cluster import cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FIRST_S, BETWEEN_S, DOWN_S = 15.0, 12.0, 4.0


def drill(folder: Path, arguments: list[str]) -> int:
    """Run the load; return its status."""
    with ExitStack() as running:
        databases = running.enter_context(servers(_made(folder / "mariadb")))
        caches = running.enter_context(cluster(_made(folder / "redis")))
        kafka = Kafka(folder / "kafka")
        broker = running.enter_context(ExitStack())
        broker.enter_context(kafka.running())
        urls = {
            "EXAMPLE_BUS": kafka.url,
            "EXAMPLE_CACHE_SERVER": caches.url,
            "EXAMPLE_DATABASES": ",".join(server.url for server in databases),
        }

        def kills() -> Iterator[tuple[str, Callable[[], object], Callable[[], object]]]:
            for number, server in enumerate(databases, 1):
                yield f"MariaDB {number}", server.kill, server.start
            yield "Kafka", broker.close, lambda: broker.enter_context(kafka.running())

        command = [sys.executable, "-m", "example_app", "--load", "--any-ports"]
        command += ["--data", str(folder / "data"), *arguments]
        began = time.monotonic()
        with subprocess.Popen(command, env={**os.environ, **urls}) as load:

            def is_over(pause_s: float) -> bool:
                with suppress(subprocess.TimeoutExpired):
                    load.wait(pause_s)
                return load.poll() is not None

            def say(what: str) -> None:
                sys.stderr.write(f"{time.monotonic() - began:4.0f} s  {what}\n")

            if not is_over(FIRST_S):
                caches.kill_primary_of("nonce:0")
                say("a Redis primary is killed; its replica takes over")
            for name, kill, start in itertools.cycle(kills()):
                if is_over(BETWEEN_S):
                    break
                kill()
                say(f"{name} is killed")
                is_over(DOWN_S)
                start()
                say(f"{name} is back")
            return load.wait()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


if __name__ == "__main__":
    with TemporaryDirectory() as made:
        sys.exit(drill(Path(made), sys.argv[1:]))
