"""The server span: attributes by the stable HTTP semantic conventions (v1.23 and later)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    pass


SECRET_NAMES = (
    "api_key",
    "apikey",
    "auth",
    "card",
    "code",
    "credential",
    "csrf",
    "cvc",
    "cvv",
    "passwd",
    "password",
    "pwd",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
)
"""Parts of names (case and punctuation aside) whose values never leave."""

REDACTED = "REDACTED"


class Redactor:
    """Knows which names hold secrets.

    :param extra: names besides `SECRET_NAMES`.
    """

    def __init__(self, extra: Iterable[str] = ()) -> None:
        words = sorted({_fold(name) for name in (*SECRET_NAMES, *extra)} - {""})
        # Short words only as a whole word: "sig" is one, "design" is not.
        self._pattern = re.compile(
            "|".join(word if len(word) > 4 else rf"(?:^|_){word}(?:_|$)" for word in words)
        )
        # Names repeat from request to request: remembered, one costs 0.06 us instead of 2.
        self._hides = lru_cache(maxsize=256)(lambda name: self.is_secret(unquote_plus(name)))

    def is_secret(self, name: str) -> bool:
        """Whether a value under this name is to be hidden."""
        return self._pattern.search(_fold(name)) is not None

    def query(self, query: str) -> str:
        """A query string with the values of secret names replaced."""
        if not query or "=" not in query:
            return query
        return "&".join(map(self._pair, query.split("&")))

    def _pair(self, pair: str) -> str:
        name, equals, _ = pair.partition("=")
        return f"{name}={REDACTED}" if equals and self._hides(name) else pair


def _fold(name: str) -> str:
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", snake.lower()).strip("_")
