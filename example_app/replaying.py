"""Publishing dead letters again, which somebody decides on."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from example_app.engines import Engines
from example_app.events import dead_letters

if TYPE_CHECKING:
    from pathlib import Path


def replay(data: Path, topic: str) -> int:
    """Publish the dead letters of `topic` again, also while the system runs.

    :returns: their number.
    :raises ValueError: `topic` is not one of dead letters, or no system has run in `data`.
    """
    engines = Engines.from_environment()
    with (
        closing(engines.dead_letters(data, topic)) as consumer,
        closing(engines.publisher(data)) as publisher,
    ):
        return dead_letters.replay(topic, consumer, publisher)
