"""Moving a user to another shard, while the order service is stopped.

Can be done again after a failure anywhere on the way: no order is missing at any time, and what was
copied before is not copied twice.
"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.trace import NoOpTracer

from example_app.orders.shards import KEYS, Router, shard_of_key
from example_app.orders.sqlite_store import SqliteOrderStore

if TYPE_CHECKING:
    from pathlib import Path

FILE = "moved.json"
"""The shard keys of users that were moved, by user id; beside the databases."""


def router(folder: Path) -> Router:
    """Return the router for the databases in `folder`."""
    return Router(_moved(folder))


def move(folder: Path, user_id: str, key: int) -> int:
    """Move a user to the shard of `key`; return the number of orders.

    :raises ValueError: `key` is none.
    """
    if not 0 <= key < KEYS:
        raise ValueError(f"{key:#x} is no shard key: they go from 0x0000 to {KEYS - 1:#x}")
    with closing(SqliteOrderStore(folder, NoOpTracer(), router(folder))) as store:
        count = store.copy(user_id, shard_of_key(key))
    # From here on the user is there; a file is replaced as a whole or not at all.
    written = folder / f"{FILE}.new"
    written.write_bytes(msgspec.json.encode({**_moved(folder), user_id: key}))
    written.replace(folder / FILE)
    with closing(SqliteOrderStore(folder, NoOpTracer(), router(folder))) as store:
        store.remove_elsewhere(user_id)
    return count


def _moved(folder: Path) -> dict[str, int]:
    try:
        return msgspec.json.decode((folder / FILE).read_bytes(), type=dict[str, int])
    except FileNotFoundError:
        return {}
