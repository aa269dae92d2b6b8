"""Anti-replay: a nonce is used once, for one body."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from example_app.cache.store import Cache

HEADER = "X-Nonce"
KEPT_S = 24 * 3600
_NONCE = re.compile(r"[A-Za-z0-9_-]{8,128}")


class BadNonce(Exception):
    """There is no nonce, or what is there is none."""


class Replayed(Exception):
    """The nonce was used before, for this body or for another; the message says which."""


def use(cache: Cache, nonce: str | None, body: bytes) -> None:
    """Use a nonce for a body.

    :param body: the raw bytes; the same order written differently is another body.
    :raises BadNonce: it is missing or malformed.
    :raises Replayed: it was used within the last day.
    """
    if nonce is None or _NONCE.fullmatch(nonce) is None:
        raise BadNonce(f"Send a new {HEADER} with each order: 8 to 128 letters, digits, - or _.")
    key, digest = f"nonce:{nonce}", hashlib.sha256(body).hexdigest()
    if not cache.add(key, digest, KEPT_S):
        same = cache.get(key) == digest
        raise Replayed(
            f"This {HEADER} was used already, for {'this very' if same else 'another'} body."
        )
