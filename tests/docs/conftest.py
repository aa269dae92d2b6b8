from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.body.servers import free_port
from tests.docs.receiver import Receiver, receiving
from tests.docs.running import environment, running
from tests.example_app.programs import needed


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    """A redis-server of this test's own."""
    needed("redis-server", "apt-get install redis-server")
    port = free_port()
    with running(f"exec redis-server --port {port} --save ''", tmp_path, port, environment()):
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Takes what is exported."""
    with receiving() as there:
        yield there
