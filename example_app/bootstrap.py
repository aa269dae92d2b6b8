"""The one place that picks engines and puts the services together."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from opentelemetry import trace

from example_app.orders.sqlite_store import SqliteOrderStore
from example_app.orders.views import order_routes
from example_app.payments.views import payment_routes
from example_app.service import traced_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from flask import Flask
    from opentelemetry.sdk.trace import TracerProvider


@contextmanager
def order_service(
    database: Path, payment_key: bytes, tracer_provider: TracerProvider | None = None
) -> Iterator[Flask]:
    """Put the order service together, with the payment callback in it.

    :param database: the SQLite file with the orders; made if it is not there.
    :param payment_key: the secret shared with the payment provider.
    :param tracer_provider: where spans go; without one the `OTEL_*` variables say.
    """
    app = traced_service("orders", tracer_provider)
    tracer = trace.get_tracer("example_app.orders", tracer_provider=tracer_provider)
    with closing(SqliteOrderStore(database, tracer)) as store:
        app.register_blueprint(order_routes(store))
        app.register_blueprint(payment_routes(store, payment_key))
        yield app
