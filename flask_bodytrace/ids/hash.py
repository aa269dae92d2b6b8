"""Keyed hashes of business ids: one key, but another hash for each purpose and attribute.

Version 2: until 0.1 all purposes shared one hash, so a trace id told the stored hash of an id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache

# BLAKE2's personalisation (RFC 7693, 2.8) keeps the purposes apart, its salt the attributes.
_OF_IDS = b"bodytrace id v2"
_OF_TRACES = b"bodytrace trace2"


def id_hasher(attribute: str, key: bytes) -> Callable[[str], str]:
    """The hash function for values of `attribute`: 128 bits of keyed BLAKE2b (RFC 7693), in hex."""
    salt = hashlib.blake2b(attribute.encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()
    return _hasher(key, _OF_IDS, salt)


def derive_trace_id(value: str, key: str = "") -> int:
    """The trace id of a business id: 128 bits of keyed BLAKE2b, never 0.

    :param value: the id as it is stored, such as ``ORD123456``.
    :param key: ``BODYTRACE_HASH_KEY``.
    """
    return int(_hasher(key.encode(), _OF_TRACES, b"")(value), 16) or 1


@lru_cache(maxsize=64)
def _hasher(key: bytes, person: bytes, salt: bytes) -> Callable[[str], str]:
    if len(key) > hashlib.blake2b.MAX_KEY_SIZE:
        key = hashlib.blake2b(key).digest()
    keyed = hashlib.blake2b(digest_size=16, key=key, person=person, salt=salt)

    def digest(value: str) -> str:
        # A copy: keying anew takes longer.
        mine = keyed.copy()
        mine.update(value.encode("utf-8", "replace"))
        return mine.hexdigest()

    return digest
