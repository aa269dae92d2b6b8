"""The one place that picks engines and puts the services together."""

from __future__ import annotations

import hashlib
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from opentelemetry import trace

from example_app.breaker import rules
from example_app.breaker.breaker import Breaker
from example_app.breaker.guard import Guard
from example_app.breaker.neighbours import GuardedGrpc, GuardedHttp
from example_app.duty import Duty
from example_app.engines import Engines
from example_app.events.loop import EventLoop, together
from example_app.events.outbox import Relay
from example_app.failures import DatabaseUnavailable
from example_app.health import health_routes
from example_app.metrics.cache import MeteredCache
from example_app.metrics.handlers import timed
from example_app.metrics.loops import observe_backlog, observe_duty
from example_app.orders.admission import MOST_WAITING, Admission, events_waiting, most_waiting
from example_app.orders.shards import DATABASES
from example_app.service import traced_service, with_routes
from flask_bodytrace.audit import BodyCapture, Redactor

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication
    from flask import Flask
    from opentelemetry.trace import Tracer, TracerProvider

    from example_app.cache.store import Cache
    from example_app.discovery.directory import Directory
    from example_app.events.bus import Publisher
    from example_app.events.event import Event
    from example_app.events.outbox import Outbox
    from example_app.events.state import LoopState
    from example_app.orders.store import OrderStore

GATEWAY, ORDERS, INVENTORY, PAYMENTS = "gateway", "orders", "inventory", "payments"
FULFILMENT, VIEWER, INVENTORY_GRPC = "fulfilment", "viewer", "inventory-grpc"
_ANNOUNCED = {INVENTORY: (INVENTORY, INVENTORY_GRPC), VIEWER: ()}
"""Under which names services are found, where not just under their own."""

AUDITED_BYTES = 64 * 1024
BODYTRACE, OPENTELEMETRY, NOBODY = "bodytrace", "opentelemetry", "none"
TRACINGS = (BODYTRACE, OPENTELEMETRY, NOBODY)


@dataclass(frozen=True)
class Surroundings:
    """Where a service is run.

    :ivar data: the folder of all files.
    :ivar services: the address of each service, as others reach it.
    :ivar engines: which engines are used.
    :ivar bind: the host that services listen on; empty: that of their own address. In a container
        they are reached by a name, and listen on ``0.0.0.0``.
    :ivar tracing: one of `TRACINGS`: who makes the services' spans.
    :ivar payment_key: the secret between payments and orders.
    :ivar most_waiting: so many events may wait to be handled while new orders are taken.
    :ivar tracer_provider: where spans go; without one the `OTEL_*` variables say.
    """

    data: Path
    services: Mapping[str, str]
    payment_key: bytes
    tracer_provider: TracerProvider | None = None
    bind: str = ""
    tracing: str = BODYTRACE
    most_waiting: int = MOST_WAITING
    engines: Engines = field(default_factory=Engines)

    def __post_init__(self) -> None:
        if self.tracing not in TRACINGS:
            known = ", ".join(TRACINGS)
            raise ValueError(f"EXAMPLE_TRACING: {self.tracing[:60]!r} is none of {known}")

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Surroundings:
        """Read `EXAMPLE_DATA`, `_SERVICES`, `_PAYMENT_KEY`, `_BIND` and so on, and the engines.

        :raises KeyError: one of the first three is not set.
        :raises ValueError: a setting is not as it has to be.
        """
        pairs = (pair.partition("=") for pair in environ["EXAMPLE_SERVICES"].split(","))
        return cls(
            data=Path(environ["EXAMPLE_DATA"]),
            services={name: address for name, _, address in pairs},
            payment_key=environ["EXAMPLE_PAYMENT_KEY"].encode(),
            bind=environ.get("EXAMPLE_BIND", ""),
            tracing=environ.get("EXAMPLE_TRACING", BODYTRACE),
            most_waiting=most_waiting(environ),
            engines=Engines.from_environment(environ),
        )

    def environment(self) -> dict[str, str]:
        """Return what `from_environment` reads."""
        return {
            "EXAMPLE_DATA": str(self.data),
            "EXAMPLE_SERVICES": ",".join(f"{name}={it}" for name, it in self.services.items()),
            "EXAMPLE_PAYMENT_KEY": self.payment_key.decode(),
            "EXAMPLE_BIND": self.bind,
            "EXAMPLE_TRACING": self.tracing,
            "EXAMPLE_MOST_WAITING": str(self.most_waiting),
            **self.engines.environment(),
        }

    def listening(self, service: str) -> tuple[str, int]:
        """Return the host and port that a service listens on."""
        address = self.services[service]
        parts = urlsplit(address if "://" in address else f"//{address}")
        return self.bind or parts.hostname or "127.0.0.1", parts.port or 0

    @property
    def orders(self) -> Path:
        """The folder of the orders' databases."""
        return self.data / "orders"

    def service(self, name: str, **settings: Any) -> Flask:
        """Return a service's app, without routes."""
        otel_spans = self.tracing == OPENTELEMETRY
        return traced_service(name, self.tracer_provider, otel_spans=otel_spans, **settings)

    # The engines.

    def directory(self) -> Directory:
        """Where services are found."""
        return self.engines.find_services(self.services)

    @contextmanager
    def announced(self, service: str) -> Iterator[None]:
        """Let others find a service, which takes requests, for as long as the block lasts.

        Of several processes behind one address, one does it.
        """
        services = {name: self.services[name] for name in _ANNOUNCED.get(service, (service,))}

        @contextmanager
        def work() -> Iterator[Mapping[str, LoopState]]:
            with closing(self.directory()) as directory, directory.announcing(services):
                yield {}

        if self.engines.directory:
            host, port = self.listening(service)
            with self.duty(f"announced-{service}-{host}-{port}", work).running():
                yield
        else:
            yield

    @contextmanager
    def cache(self) -> Iterator[Cache]:
        """What services keep for a while."""
        with closing(self.engines.cache(self.data)) as cache:
            yield MeteredCache(cache)

    def publisher(self) -> Publisher:
        """Where events go."""
        return self.engines.publisher(self.data)

    @contextmanager
    def events(
        self, group: str, handlers: Mapping[str, Callable[[Event], None]], tracer: Tracer
    ) -> Iterator[Mapping[str, LoopState]]:
        """Hand events to `handlers`, by topic, for as long as the block lasts.

        :yields: the state of each loop, by name.
        """
        with closing(self.publisher()) as given_up:
            loops = {
                f"events-{number}": EventLoop(consumer, timed(handlers, group), tracer, given_up)
                for number, consumer in enumerate(
                    self.engines.consumers(self.data, group, handlers, seat=self._seat), start=1
                )
            }
            with together([*loops.values()]):
                yield {name: loop.state for name, loop in loops.items()}

    @property
    def _seat(self) -> str:
        """What one process on this machine is at a time: the one that has the service's lock."""
        folder = hashlib.sha256(os.fsencode(self.data.absolute())).hexdigest()[:8]
        return f"{socket.gethostname()}-{folder}"

    @contextmanager
    def relay(
        self, outboxes: Sequence[Outbox], tracer: Tracer
    ) -> Iterator[Mapping[str, LoopState]]:
        """Publish what is in the outboxes for as long as the block lasts.

        :yields: the state of each outbox's loop, by name.
        """
        with closing(self.publisher()) as publisher:
            relay = Relay(outboxes, publisher, tracer)
            with relay.running():
                yield relay.states

    def duty(
        self, service: str, work: Callable[[], AbstractContextManager[Mapping[str, LoopState]]]
    ) -> Duty:
        """What one of a service's processes on this machine does."""
        return Duty(self.data / "locks" / f"{service}.lock", work)

    def loops(
        self, service: str, work: Callable[[], AbstractContextManager[Mapping[str, LoopState]]]
    ) -> Duty:
        """A service's relay or event loops, in one of its processes on this machine."""
        duty = self.duty(service, work)
        observe_duty(duty)
        return duty

    def tracer(self, service: str) -> Tracer:
        """What makes a service's own spans; asked for after its app was made."""
        return trace.get_tracer(f"example_app.{service}", tracer_provider=self.tracer_provider)


@contextmanager
def gateway(around: Surroundings) -> Iterator[Flask]:
    """Put the gateway together."""
    from example_app.gateway.views import gateway_routes

    # Callers outside neither choose our trace nor our sampling.
    app = around.service(GATEWAY, incoming="link")
    tracer, allowed = around.tracer(GATEWAY), rules.read()
    with (
        around.cache() as cache,
        closing(around.directory()) as directory,
        closing(GuardedHttp(directory, tracer, Breaker(ORDERS, allowed[ORDERS]))) as orders,
        closing(
            GuardedHttp(directory, tracer, Breaker(INVENTORY, allowed[INVENTORY]))
        ) as inventory,
    ):
        app.register_blueprint(gateway_routes(orders, inventory, cache))
        app.register_blueprint(health_routes(checks={"cache": lambda: cache.get("ready")}))
        yield app


@contextmanager
def orders(around: Surroundings) -> Iterator[Flask]:
    """Put the order service together, with its relay."""
    from example_app.orders.callbacks import callback_routes
    from example_app.orders.file_audit_log import FileAuditLog
    from example_app.orders.inventory_client import InventoryClient
    from example_app.orders.moving import router
    from example_app.orders.payments_client import PaymentsClient
    from example_app.orders.views import Parts, order_routes

    app = around.service(ORDERS)
    tracer, allowed = around.tracer(ORDERS), rules.read()
    with ExitStack() as parts:
        cache = parts.enter_context(around.cache())
        directory = parts.enter_context(closing(around.directory()))
        inventory = GuardedGrpc(
            INVENTORY_GRPC, directory, tracer, Breaker(INVENTORY, allowed[INVENTORY])
        )
        payments = GuardedHttp(directory, tracer, Breaker(PAYMENTS, allowed[PAYMENTS]))
        store = around.engines.order_store(around.orders, tracer, router(around.orders))
        audit_log = FileAuditLog(around.data / "audit" / "orders.jsonl")
        for part in (inventory, payments, store, audit_log):
            parts.enter_context(closing(part))
        duty = around.loops(ORDERS, lambda: around.relay(store.outboxes, tracer))
        observe_backlog(duty, lambda: store.unpublished().value)
        progress = parts.enter_context(closing(around.engines.progress(around.data)))
        admission = Admission(
            lambda: events_waiting(store, progress, (PAYMENTS, FULFILMENT)), around.most_waiting
        )
        app.register_blueprint(
            order_routes(
                Parts(
                    store=store,
                    inventory=InventoryClient(
                        inventory, Guard(INVENTORY, allowed[INVENTORY], cache)
                    ),
                    payments=PaymentsClient(payments, Guard(PAYMENTS, allowed[PAYMENTS], cache)),
                    audit_log=audit_log,
                    admission=admission,
                    redacted=BodyCapture(AUDITED_BYTES, Redactor()),
                )
            )
        )
        app.register_blueprint(callback_routes(store, around.payment_key))
        health = health_routes(
            loops=duty.report, checks={"databases": lambda: _some_answer(store)}, needs_bus=False
        )
        app.register_blueprint(health)
        parts.enter_context(duty.running())
        parts.enter_context(admission.running())
        yield app


def _some_answer(store: OrderStore) -> None:
    """Ask the databases: one that is down is missed by its own users only."""
    unanswered = store.unpublished().unanswered
    if len(unanswered) == len(DATABASES):
        raise DatabaseUnavailable("no database of orders answers")


@contextmanager
def inventory(around: Surroundings) -> Iterator[Flask]:
    """Put the inventory together: HTTP, gRPC and events."""
    from example_app.inventory.handlers import handlers
    from example_app.inventory.methods import inventory_methods
    from example_app.inventory.sqlite_stock import SqliteStock
    from example_app.inventory.stock import CATALOGUE
    from example_app.inventory.views import inventory_routes
    from example_app.rpc import serving_grpc

    app = around.service(INVENTORY)
    tracer = around.tracer(INVENTORY)
    grpc_address = "{}:{}".format(*around.listening(INVENTORY_GRPC))
    with closing(SqliteStock(around.data / "inventory.db", CATALOGUE, tracer)) as stock:
        duty = around.loops(INVENTORY, lambda: around.events(INVENTORY, handlers(stock), tracer))
        app.register_blueprint(inventory_routes(stock))
        app.register_blueprint(
            health_routes(loops=duty.report, checks={"database": lambda: stock.levels([])})
        )
        with serving_grpc(inventory_methods(stock), grpc_address, tracer), duty.running():
            yield app


@contextmanager
def payments(around: Surroundings) -> Iterator[Flask]:
    """Put the payment service together."""
    from example_app.payments.handlers import handlers
    from example_app.payments.sandbox_provider import SandboxProvider
    from example_app.payments.sqlite_charges import SqliteCharges
    from example_app.payments.views import payment_routes

    app = around.service(PAYMENTS)
    tracer, provider = around.tracer(PAYMENTS), SandboxProvider()
    with (
        closing(SqliteCharges(around.data / "payments.db", tracer)) as charges,
        closing(around.directory()) as directory,
        closing(GuardedHttp(directory, tracer, Breaker(ORDERS, rules.read()[ORDERS]))) as orders,
    ):
        handled = handlers(provider, charges, orders, around.payment_key)
        duty = around.loops(PAYMENTS, lambda: around.events(PAYMENTS, handled, tracer))
        app.register_blueprint(payment_routes(provider, charges))
        app.register_blueprint(
            health_routes(loops=duty.report, checks={"database": lambda: charges.outcome("", "")})
        )
        with duty.running():
            yield app


@contextmanager
def fulfilment(around: Surroundings) -> Iterator[Flask]:
    """Put the fulfilment consumer together."""
    from example_app.fulfilment.handlers import handlers
    from example_app.fulfilment.sqlite_shipments import SqliteShipments
    from example_app.fulfilment.views import fulfilment_routes

    app = around.service(FULFILMENT)
    tracer = around.tracer(FULFILMENT)
    with closing(SqliteShipments(around.data / "fulfilment.db", tracer)) as shipments:
        duty = around.loops(
            FULFILMENT, lambda: around.events(FULFILMENT, handlers(shipments), tracer)
        )
        app.register_blueprint(fulfilment_routes(shipments))
        app.register_blueprint(
            health_routes(loops=duty.report, checks={"database": lambda: shipments.of_order("")})
        )
        with duty.running():
            yield app


@contextmanager
def viewer(_around: Surroundings) -> Iterator[WSGIApplication]:
    """Put the trace viewer together, which the other services send their spans to."""
    from flask import Flask

    from flask_bodytrace.viewer import Access, TraceStore, Viewer

    about_itself = Flask(VIEWER)
    about_itself.register_blueprint(health_routes())
    yield with_routes(about_itself, Viewer(TraceStore(), Access(), receives=True))


SERVICES: Mapping[str, Callable[[Surroundings], AbstractContextManager[WSGIApplication]]] = {
    VIEWER: viewer,
    INVENTORY: inventory,
    PAYMENTS: payments,
    FULFILMENT: fulfilment,
    ORDERS: orders,
    GATEWAY: gateway,
}
"""What puts each service together, by name; those that others need come first."""
