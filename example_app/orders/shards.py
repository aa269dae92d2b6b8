"""Which of the 8 databases x 16 tables holds a user's orders. Pure.

The shard key is the first 16 bits of SHA-256 of the user id in UTF-8: stable over processes,
machines and versions of Python, and as even as can be. Of its bits the first three name the
database and the first seven the table::

    0x0000-0x1FFF  db-order-01  t_order_00 .. t_order_0F
    0x2000-0x3FFF  db-order-02  t_order_10 .. t_order_1F
    ...
    0xE000-0xFFFF  db-order-08  t_order_70 .. t_order_7F
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYS = 1 << 16
DATABASES = tuple(f"db-order-{number:02}" for number in range(1, 9))
TABLES_PER_DATABASE = 16
TABLES = tuple(f"t_order_{number:02X}" for number in range(len(DATABASES) * TABLES_PER_DATABASE))
_KEYS_PER_TABLE = KEYS // len(TABLES)


@dataclass(frozen=True)
class Shard:
    """One table, and the database it is in."""

    database: str
    table: str


def shard_key(user_id: str) -> int:
    """The user's shard key, 0x0000 to 0xFFFF."""
    return int.from_bytes(hashlib.sha256(user_id.encode()).digest()[:2], "big")


def shard_of_key(key: int) -> Shard:
    """Return the shard of a key from 0x0000 to 0xFFFF."""
    table = key // _KEYS_PER_TABLE
    return Shard(DATABASES[table // TABLES_PER_DATABASE], TABLES[table])


class Router:
    """Finds users' shards.

    :param moved: the shard keys of users that were moved, by user id; everybody else's is hashed.
    """

    def __init__(self, moved: Mapping[str, int] | None = None) -> None:
        self._moved = moved or {}

    def shard_of(self, user_id: str) -> Shard:
        """Return where this user's orders are."""
        key = self._moved.get(user_id)
        return shard_of_key(shard_key(user_id) if key is None else key)


def tables_of(database: str) -> tuple[str, ...]:
    """Return the tables that `database` has."""
    first = DATABASES.index(database) * TABLES_PER_DATABASE
    return TABLES[first : first + TABLES_PER_DATABASE]
