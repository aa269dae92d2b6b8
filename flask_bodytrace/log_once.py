"""Logging the same failure once, so that a fault in every request does not fill the log."""

from __future__ import annotations

import logging

_log = logging.getLogger("flask_bodytrace")


class LogOnce:
    """Logs the exception being handled, the first time for each `place`.

    :param message: what is said; a ``%s`` in it is the place. " (logged once)" follows.
    """

    def __init__(self, message: str) -> None:
        self._message = f"{message} (logged once)"
        self._places: set[str] = set()

    def __call__(self, place: str) -> None:
        """Log the current exception if `place` is new."""
        if place not in self._places:
            self._places.add(place)
            _log.exception(self._message, *([place] if "%s" in self._message else []))
