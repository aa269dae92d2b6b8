"""Which engines the services use: each is embedded, or a real server where a setting names one."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING

from example_app.cache.missing_cache import MissingCache
from example_app.cache.sqlite_cache import SqliteCache
from example_app.discovery.proxied_directory import ProxiedDirectory
from example_app.discovery.static_directory import StaticDirectory
from example_app.events.bus import PARTITIONS
from example_app.events.kafka_settings import KafkaSettings
from example_app.events.sqlite_bus import SqliteConsumer, SqliteProgress, SqlitePublisher
from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from opentelemetry.trace import Tracer

    from example_app.cache.store import OpenCache
    from example_app.discovery.directory import Directory
    from example_app.events.bus import Consumer, Progress, Publisher
    from example_app.orders.shards import Router
    from example_app.orders.sql_store import SqlOrderStore

MEMBERS = 8
"""So many threads of a process handle a group's events, each those of its own partition.

Handling is mostly waiting, for a commit or for a neighbour: with fewer threads than those who order
at the same time, payments would fall behind."""


@dataclass(frozen=True)
class Engines:
    """The real servers, as URLs; an empty one stands for the embedded engine.

    The environment variable of each is `EXAMPLE_` and its name in capitals.

    :ivar directory: Consul's agent, as ``consul://host:port``, or with a token before the host, as
        ``consul://:token@host:port``.
    :ivar cache_server: servers of a Redis Cluster, as ``redis://host:port,host:port``; one of them
        has to answer.
    :ivar bus: Kafka's brokers, as ``kafka://host:port,host:port``; see `kafka_settings`.
    :ivar databases: MariaDB's servers for the orders, as ``mysql+pymysql://user:password@host:port``
        each, separated by commas; their order stays.
    :ivar proxies: services that are reached through a proxy, which the directory is not asked for,
        as ``orders=http://host:port``, separated by commas.
    """

    directory: str = ""
    cache_server: str = ""
    bus: str = ""
    databases: str = ""
    proxies: str = ""

    def __post_init__(self) -> None:
        """Check what can be checked without asking the servers.

        :raises ValueError: a setting is not as it has to be.
        """
        _addresses(self.proxies)
        if self.bus:
            KafkaSettings(self.bus)
            if find_spec("confluent_kafka") is None:
                raise ValueError(
                    "EXAMPLE_BUS needs confluent-kafka: pip install 'flask_bodytrace[kafka]'"
                )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Engines:
        """Read the variable of each engine; one that is not set is empty."""
        names = cls.__dataclass_fields__
        return cls(**{name: environ.get(f"EXAMPLE_{name.upper()}", "") for name in names})

    def environment(self) -> dict[str, str]:
        """Return what `from_environment` reads."""
        return {f"EXAMPLE_{name.upper()}": url for name, url in asdict(self).items()}

    def find_services(self, services: Mapping[str, str]) -> Directory:
        """Where services are found.

        :param services: the fixed list of them, for where there is no other.
        """
        found: Directory = StaticDirectory(services)
        if self.directory:
            from example_app.discovery.consul_directory import ConsulDirectory

            found = ConsulDirectory(self.directory)
        return ProxiedDirectory(_addresses(self.proxies), found) if self.proxies else found

    def order_store(self, folder: Path, tracer: Tracer, router: Router) -> SqlOrderStore:
        """Where orders are kept.

        :param folder: of the files, for where there is no server.
        :raises DatabaseUnavailable: one of the databases cannot be opened; servers of `databases`
            that are down are waited for instead.
        :raises ValueError: `databases` names what is no server.
        """
        if self.databases:
            from example_app.orders.mariadb_store import MariadbOrderStore

            return MariadbOrderStore(self.databases, tracer, router)
        from example_app.orders.sqlite_store import SqliteOrderStore

        return SqliteOrderStore(folder, tracer, router)

    def let_database_be_new(self, name: str) -> None:
        """Say that a database of orders that was dropped may be made again, empty.

        :raises DatabaseUnavailable: one of the servers does not answer.
        :raises ValueError: it is there, or orders are in files.
        """
        if not self.databases:
            raise ValueError("this is for the servers of EXAMPLE_DATABASES, which is not set")
        from example_app.orders.mariadb_store import let_be_new

        let_be_new(self.databases, name)

    def cache(self, data: Path) -> OpenCache:
        """What services keep for a while; they start without it where it cannot be opened.

        :raises ValueError: `cache_server` is none.
        """

        def open_cache() -> OpenCache:
            if self.cache_server:
                from example_app.cache.redis_cache import RedisCache

                return RedisCache(self.cache_server)
            return SqliteCache(data / "cache.db")

        try:
            return open_cache()
        except TemporarilyUnavailable as error:
            return MissingCache(open_cache, error)

    def publisher(self, data: Path) -> Publisher:
        """Where events go."""
        if self.bus:
            from example_app.events.kafka_bus import KafkaPublisher

            return KafkaPublisher(KafkaSettings(self.bus))
        return SqlitePublisher(data / "bus.db")

    def progress(self, data: Path) -> Progress:
        """What knows how far groups are with their events."""
        if self.bus:
            from example_app.events.kafka_progress import KafkaProgress

            return KafkaProgress(KafkaSettings(self.bus))
        return SqliteProgress(data / "bus.db")

    def consumers(
        self,
        data: Path,
        group: str,
        topics: Iterable[str],
        members: int = MEMBERS,
        seat: str = "",
    ) -> Sequence[Consumer]:
        """Where events of these topics come from: a process's members of a group.

        :param seat: names the place of one process in the group. Whoever has it next goes on with
            its partitions at once: the group need not find out first that the last one has died.
        """
        topics = [*topics]
        if self.bus:
            from example_app.events.kafka_bus import KafkaConsumer

            settings = KafkaSettings(self.bus)
            return [
                KafkaConsumer(settings, group, topics, f"{seat}-{number}" if seat else "")
                for number in range(members)
            ]
        path = data / "bus.db"
        return [
            SqliteConsumer(path, group, topics, range(member, PARTITIONS, members))
            for member in range(members)
        ]

    def dead_letters(self, data: Path, topic: str) -> Consumer:
        """Where the dead letters of `topic` come from, those that were replayed before left out.

        :raises ValueError: no system has run in `data`.
        """
        if self.bus:
            from example_app.events.kafka_bus import KafkaConsumer

            return KafkaConsumer(KafkaSettings(self.bus), f"replay {topic}", [topic])
        if not (path := data / "bus.db").exists():
            raise ValueError(f"{path} is not there")
        return SqliteConsumer(path, f"replay {topic}", [topic])


def _addresses(proxies: str) -> Mapping[str, str]:
    """Read the setting `proxies`: the address of each service's proxy."""
    pairs = [pair.strip().partition("=") for pair in proxies.split(",") if pair.strip()]
    for name, _, address in pairs:
        if not name or "://" not in address:
            raise ValueError(
                f"EXAMPLE_PROXIES: {name[:60]!r} has no URL, as in orders=http://127.0.0.1:8081"
            )
    return {name: address.rstrip("/") for name, _, address in pairs}
