from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.body.servers import COMMANDS, Server, missing, serving


@pytest.fixture(scope="module", params=COMMANDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Each server in turn, one process for all of a module's tests."""
    name: str = request.param
    reason = missing(name)
    if reason is not None:
        pytest.skip(reason)
    with serving(name, tmp_path_factory.mktemp(name)) as running:
        yield running
