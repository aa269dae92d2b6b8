"""A viewer on a real socket, as the fixture `viewer` gives it."""

from __future__ import annotations

from flask_bodytrace.viewer.pages import Viewer
from flask_bodytrace.viewer.store import TraceStore


class RunningViewer:
    """A viewer on a real socket, and what is behind it."""

    def __init__(self, url: str, viewer: Viewer) -> None:
        self.url = url
        self.viewer = viewer

    @property
    def store(self) -> TraceStore:
        """Where what it receives is kept."""
        return self.viewer.store
