"""Which engines the services use: each is embedded, or a real server where a setting names one."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from example_app.cache.sqlite_cache import SqliteCache
from example_app.discovery.static_directory import StaticDirectory
from example_app.events.sqlite_bus import SqliteConsumer, SqlitePublisher

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from example_app.cache.store import Cache
    from example_app.discovery.directory import Directory
    from example_app.events.bus import Consumer, Publisher


@dataclass(frozen=True)
class Engines:
    """The real servers, as URLs; an empty one stands for the embedded engine.

    The environment variable of each is `EXAMPLE_` and its name in capitals.

    :ivar directory: Consul's agent, as ``consul://host:port``, or with a token before the host, as
        ``consul://:token@host:port``.
    :ivar cache_server: any server of a Redis Cluster, as ``redis://host:port``.
    """

    directory: str = ""
    cache_server: str = ""

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
        if self.directory:
            from example_app.discovery.consul_directory import ConsulDirectory

            return ConsulDirectory(self.directory)
        return StaticDirectory(services)

    def cache(self, data: Path) -> Cache:
        """What services keep for a while.

        :raises ValueError: `cache_server` is none.
        """
        if self.cache_server:
            from example_app.cache.redis_cache import RedisCache

            return RedisCache(self.cache_server)
        return SqliteCache(data / "cache.db")

    def publisher(self, data: Path) -> Publisher:
        """Where events go."""
        return SqlitePublisher(data / "bus.db")

    def consumer(self, data: Path, group: str) -> Consumer:
        """Where events come from."""
        return SqliteConsumer(data / "bus.db", group)
