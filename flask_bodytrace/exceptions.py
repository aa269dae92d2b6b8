"""What this package raises. Everything derives from :class:`BodyTraceError`."""

from __future__ import annotations

from werkzeug.exceptions import RequestEntityTooLarge


class BodyTraceError(Exception):
    """Anything `flask_bodytrace` itself refuses to do."""


class ConfigError(BodyTraceError, ValueError):
    """A setting is unknown, malformed or contradicts another one; raised by ``init_app`` only."""


class BodyNotReplayable(BodyTraceError, RequestEntityTooLarge):
    """A body larger than ``BODYTRACE_BODY_LIMIT`` was passed on once and is asked for again.

    To the client it is a 413 (RFC 9110 15.5.14): the body is larger than this application can
    handle, which no client should be able to turn into a 500. `str` says which setting to raise.
    Deliberately neither an `OSError` nor a `ValueError`: Werkzeug's stream wrappers turn those
    into "client disconnected", which would hide the reason.
    """

    def __init__(self, message: str) -> None:
        RequestEntityTooLarge.__init__(self)
        self.args = (message,)

    def __str__(self) -> str:
        return str(self.args[0])
