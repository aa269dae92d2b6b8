"""Chunked bodies on uWSGI, whose ``wsgi.input`` leaves them out (unbit/uwsgi#1428)."""

from __future__ import annotations

import uwsgi


class UwsgiChunks:
    """What ``uwsgi.chunked_read`` yields, read like a file.

    Reading raises `OSError` for a broken chunk, for a client that is gone, and for chunks over
    uWSGI's ``--chunked-input-limit``.
    """

    __slots__ = ("_chunk", "_ended", "_position")

    def __init__(self) -> None:
        self._chunk = b""
        self._position = 0
        self._ended = False

    def read(self, size: int) -> bytes:
        """At least one and at most `size` bytes; none at the end."""
        self._advance()
        start, self._position = self._position, self._position + size
        return self._chunk[start : self._position]

    def readline(self, size: int) -> bytes:
        """At most `size` bytes and one line; perhaps only part of it."""
        self._advance()
        line = self._chunk.find(b"\n", self._position) + 1 - self._position
        return self.read(min(line, size) if line > 0 else size)

    def _advance(self) -> None:
        if self._position >= len(self._chunk) and not self._ended:
            self._chunk = uwsgi.chunked_read()
            self._position = 0
            self._ended = not self._chunk
