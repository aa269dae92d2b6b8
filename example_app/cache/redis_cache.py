"""A cachelib cache in a Redis Cluster, for all processes of all machines.

cachelib's own Redis cache adds in two steps; here adding is one command, ``SET NX EX``.

While a primary that died is replaced by its replica, about as long as ``cluster-node-timeout``, its
keys answer nobody. Every call waits for that, and tries again.
"""

from __future__ import annotations

import re
import secrets
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec
from cachelib.base import BaseCache
from redis import exceptions
from redis.backoff import NoBackoff
from redis.cluster import RedisCluster
from redis.retry import Retry

from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

_NODE_TIMEOUT_S = 1.0
_PAUSE_S = 0.1
_SHOWN = 200
_ADDRESS = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?")
_PASSING = (
    exceptions.ClusterDownError,
    exceptions.ConnectionError,
    exceptions.RedisClusterException,
    exceptions.TimeoutError,
)
"""What clients get while a primary is being replaced."""


class RedisCache(BaseCache):
    """Keeps values in the cluster that the servers of `url` are some of.

    :param url: ``redis://host:port[,host:port]``; the first of these that answers tells where all
        servers are.
    :param default_timeout: seconds, where none are given.
    :param patience_s: how long a call waits for a primary to be replaced.
    :raises ValueError: `url` is none of Redis.
    :raises TemporarilyUnavailable: no cluster answers there.
    """

    def __init__(self, url: str, default_timeout: int = 300, patience_s: float = 10.0) -> None:
        super().__init__(default_timeout)
        self._patience_s = patience_s
        self._cluster = _first_that_answers(_addresses(url))

    def get(self, key: str) -> Any:
        """Return the value, None if there is none or its time is up."""
        found, _ = self._read(key)
        return found

    def set(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Keep a value for `timeout` seconds."""
        data = msgspec.json.encode([value, ""])
        seconds = self._normalize_timeout(timeout)
        self._patiently(lambda: self._cluster.set(key, data, ex=seconds))
        return True

    def add(self, key: str, value: Any, timeout: int | timedelta | None = None) -> bool:
        """Keep a value unless there is one; False if there is."""
        mark = secrets.token_hex(8)
        data = msgspec.json.encode([value, mark])
        seconds = self._normalize_timeout(timeout)
        added, tries = self._patiently(lambda: self._cluster.set(key, data, ex=seconds, nx=True))
        if added or tries == 1:
            return bool(added)
        # Ours may be what is there: it was written, and the answer was lost.
        return self._read(key)[1] == mark

    def delete(self, key: str) -> bool:
        """Drop a value; False if there is none."""
        dropped, _ = self._patiently(lambda: self._cluster.delete(key))
        return bool(dropped)

    def has(self, key: str) -> bool:
        """Whether there is a value."""
        there, _ = self._patiently(lambda: self._cluster.exists(key))
        return bool(there)

    def clear(self) -> bool:
        """Drop all values, of whatever else uses the cluster too."""
        self._patiently(lambda: self._cluster.flushdb(target_nodes=RedisCluster.PRIMARIES))
        return True

    def close(self) -> None:
        """Close the connections."""
        self._cluster.close()

    def _read(self, key: str) -> tuple[Any, str]:
        """The value, and the mark of whoever added it."""
        data, _ = self._patiently(lambda: self._cluster.get(key))
        if data is None:
            return None, ""
        value, mark = msgspec.json.decode(data)
        return value, mark

    def _patiently(self, call: Callable[[], Any]) -> tuple[Any, int]:
        """What `call` returns, and how many times it was tried.

        :raises RedisError: it fails for longer than `patience_s`, or for another reason.
        """
        deadline = time.monotonic() + self._patience_s
        tries = 1
        while True:
            try:
                return call(), tries
            except _PASSING:
                if time.monotonic() > deadline:
                    raise
                tries += 1
                time.sleep(_PAUSE_S)  # Nothing tells a client when the replica has taken over.


def _addresses(url: str) -> Sequence[str]:
    """The URL of each server that a setting names; what is before the ``@`` is for all of them.

    :raises ValueError: it is not of this form.
    """
    parts = urlsplit(url)
    account, at, servers = parts.netloc.rpartition("@")
    addresses = servers.split(",")
    if parts.scheme not in {"redis", "rediss"} or not all(map(_ADDRESS.fullmatch, addresses)):
        # Not shown: it may hold a password.
        raise ValueError("EXAMPLE_CACHE_SERVER is no redis://host:port[,host:port]")
    return [parts._replace(netloc=f"{account}{at}{address}").geturl() for address in addresses]


def _first_that_answers(urls: Sequence[str]) -> RedisCluster:
    """Connect to the cluster by the first server that is up and in it.

    :raises TemporarilyUnavailable: there is none.
    """
    said: list[str] = []
    for url in urls:
        server = urlsplit(url).netloc.rpartition("@")[2]
        try:
            return RedisCluster.from_url(
                url,
                socket_timeout=_NODE_TIMEOUT_S,
                socket_connect_timeout=_NODE_TIMEOUT_S,
                retry=Retry(NoBackoff(), 0),  # We try again ourselves: `add` has to know.
                require_full_coverage=True,  # Not by one that was taken out of the cluster.
            )
        except (exceptions.RedisError, exceptions.RedisClusterException) as error:
            said.append(f"{server}: {str(error)[:_SHOWN]}")
    raise TemporarilyUnavailable(
        f"EXAMPLE_CACHE_SERVER: no Redis Cluster answers ({'; '.join(said)}): name running servers "
        "of one, as redis://host:port,host:port"
    )
