"""The outbox of one database: a table beside its orders."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import msgspec
from sqlalchemy import func, select

from example_app.events.event import Event

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Connection, Engine, Table

_BATCH = 100


class SqlOutbox:
    """An `Outbox` in the database of `engine`; drained by one thread, filled by any.

    :ivar name: the database's.
    """

    def __init__(self, name: str, engine: Engine, table: Table) -> None:
        self.name = name
        self._engine = engine
        self._table = table
        self._kept = threading.Event()
        self._published: list[int] = []

    def keep(self, connection: Connection, event: Event) -> None:
        """Store an event in the transaction of `connection`; `wake` after its commit."""
        connection.execute(self._table.insert().values(event=msgspec.json.encode(event)))

    def wake(self) -> None:
        """Say that there are events, or that nobody is to wait for them any more."""
        self._kept.set()

    def wait(self, timeout_s: float) -> None:
        """Return once woken, or after `timeout_s`."""
        self._kept.wait(timeout_s)
        self._kept.clear()

    def drain(self, publish: Callable[[Sequence[Event]], None]) -> int:
        """Hand all events to `publish`, in their order, and remove what it has taken.

        :returns: their number, without those stored meanwhile, for which `wait` returns at once.
        :raises DatabaseUnavailable: they cannot be read or removed now.
        """
        table, count = self._table, 0
        oldest = select(table.c.position, table.c.event).order_by(table.c.position).limit(_BATCH)
        # Where rows can be locked, what another process is publishing is left to it.
        oldest = oldest.with_for_update(skip_locked=True)
        while True:
            # First those that were published before, and could not be removed then.
            if self._published:
                with self._engine.begin() as connection:
                    self._remove(connection)
            self._published = []
            with self._engine.begin() as connection:
                rows = connection.execute(oldest).all()
                if not rows:
                    return count
                publish([msgspec.json.decode(row.event, type=Event) for row in rows])
                self._published = [row.position for row in rows]
                self._remove(connection)
            self._published = []
            count += len(rows)
            if len(rows) < _BATCH:
                # Whoever has stored one meanwhile has also woken who waits.
                return count

    def _remove(self, connection: Connection) -> None:
        # Exactly these: a slower transaction may yet store one before the last of them.
        connection.execute(self._table.delete().where(self._table.c.position.in_(self._published)))

    def unpublished(self) -> int:
        """Return the number of events."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(self._table)).scalar_one()
