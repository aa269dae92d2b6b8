"""Sixteen tables of orders, and the outbox.

MariaDB commits after every CREATE, so a migration that was killed goes on where it was.
"""

from alembic import op
from sqlalchemy import MetaData

from example_app.orders.shards import tables_of
from example_app.orders.tables import order_table, outbox_table

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make what is not there yet."""
    metadata, connection = MetaData(), op.get_bind()
    for table in tables_of(str(connection.engine.url.database)):
        order_table(table, metadata)
    outbox_table(metadata)
    metadata.create_all(connection, checkfirst=True)


def downgrade() -> None:
    """Take them away, with the orders."""
    for table in ("outbox", *tables_of(str(op.get_bind().engine.url.database))):
        op.drop_table(table)
