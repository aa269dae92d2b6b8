"""The tables of a database of orders, as every SQL engine has them.

Names and ids are compared byte for byte: MariaDB would take ``a1`` and ``A1`` for one without that.
"""

from __future__ import annotations

from sqlalchemy import JSON, BigInteger, Column, Integer, LargeBinary, MetaData, String, Table
from sqlalchemy.dialects.mysql import LONGBLOB


def order_table(name: str, metadata: MetaData) -> Table:
    """Return one of the tables of orders."""
    return Table(
        name,
        metadata,
        Column("order_id", String(64), primary_key=True),
        Column("user_id", String(64), primary_key=True, index=True),
        Column("items", JSON, nullable=False),
        Column("total", Integer, nullable=False),
        Column("status", String(16), nullable=False),
        Column("body_size", Integer, nullable=False),
        Column("body_sha256", String(64), nullable=False),
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )


def outbox_table(metadata: MetaData) -> Table:
    """Return the table of events that are not yet published."""
    return Table(
        "outbox",
        metadata,
        Column("position", BigInteger().with_variant(Integer(), "sqlite"), primary_key=True),
        # An order's event may be larger than the 64 KiB of a BLOB.
        Column("event", LargeBinary().with_variant(LONGBLOB(), "mysql"), nullable=False),
        sqlite_autoincrement=True,
        mysql_charset="utf8mb4",
        mysql_collate="utf8mb4_bin",
    )
