"""Charges in an SQLite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import Column, Integer, MetaData, String, Table, func, select
from sqlalchemy.dialects.sqlite import insert

from example_app import sqlite
from example_app.statements import Statements

if TYPE_CHECKING:
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from example_app.payments.charges import Outcome

metadata = MetaData()
charges = Table(
    "charges",
    metadata,
    Column("order_id", String(64), primary_key=True),
    Column("user_id", String(64), primary_key=True),
    Column("total", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
)


class SqliteCharges:
    """A `Charges` in the file `path`, made if it is not there."""

    def __init__(self, path: Path, tracer: Tracer) -> None:
        self._engine = sqlite.engine(path)
        self._statements = Statements(tracer, "payments")
        sqlite.create(metadata, self._engine)

    def outcome(self, user_id: str, order_id: str) -> Outcome | None:
        """Return how charging an order went; None if it was not charged yet."""
        query = select(charges.c.outcome).where(
            charges.c.order_id == order_id, charges.c.user_id == user_id
        )
        with self._statements.span("SELECT", charges.name), self._engine.connect() as connection:
            return connection.execute(query).scalar_one_or_none()

    def keep(self, user_id: str, order_id: str, total: int, outcome: Outcome) -> Outcome:
        """Keep how charging an order went; return what is kept, which is the first one."""
        row = {"order_id": order_id, "user_id": user_id, "total": total, "outcome": outcome}
        with self._statements.span("INSERT", charges.name), self._engine.begin() as connection:
            if connection.execute(insert(charges).on_conflict_do_nothing(), row).rowcount:
                return outcome
        return self.outcome(user_id, order_id) or outcome

    def count(self) -> int:
        """Return their number."""
        with self._engine.connect() as connection:
            return connection.execute(select(func.count()).select_from(charges)).scalar_one()

    def close(self) -> None:
        """Close the file."""
        self._engine.dispose()
