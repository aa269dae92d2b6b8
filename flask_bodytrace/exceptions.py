"""What this package raises. Everything derives from :class:`BodyTraceError`."""

from __future__ import annotations


class BodyTraceError(Exception):
    """Anything `flask_bodytrace` itself refuses to do."""


class ConfigError(BodyTraceError, ValueError):
    """A setting is unknown, malformed or contradicts another one; raised by ``init_app`` only."""


class BodyNotReplayable(BodyTraceError):
    """A body larger than ``BODYTRACE_BODY_LIMIT`` was passed on once and is asked for again.

    Deliberately neither an `OSError` nor a `ValueError`: Werkzeug's stream wrappers turn those
    into "client disconnected", which would hide the reason.
    """
