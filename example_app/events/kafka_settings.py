"""What a bus's URL says: ``kafka://host:port[,host:port][?property=value&…]``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Mapping

_URL = re.compile(r"kafka://(?P<servers>[^/?#@]+)/?(\?(?P<properties>[^#]*))?")
_SERVER = re.compile(r"([\w.-]+|\[[0-9a-fA-F:.]+\]):\d{1,5}")
_SHOWN = 60

_COMMON = {
    # After a broker that was down for long, clients would else wait for up to ten seconds more.
    "reconnect.backoff.max.ms": "1000",
}
# Those of the fixed ones that nobody needs to change are beside what they are for.
_CONSUMERS = {
    # A member that was killed is missed after this time; less than 6 s brokers refuse by default.
    "session.timeout.ms": "6000",
    "heartbeat.interval.ms": "1500",
    "partition.assignment.strategy": "cooperative-sticky",
    "auto.offset.reset": "earliest",
    "max.poll.interval.ms": "300000",
}


class KafkaSettings:
    """The properties of librdkafka for one bus.

    :param url: properties in it overrule ours: ``security.protocol=SASL_SSL`` and the like.
    :raises ValueError: it is not of this form.
    """

    def __init__(self, url: str) -> None:
        found = _URL.fullmatch(url)
        servers = found["servers"].split(",") if found else []
        if not found or not all(_SERVER.fullmatch(server) for server in servers):
            # Without what follows the servers: there may be a password in it.
            shown = re.sub(r"//[^/]*@|[?#].*", "…", url)[:_SHOWN]
            raise ValueError(
                f"EXAMPLE_BUS is {shown!r}: it must be kafka://HOST:PORT[,HOST:PORT], with"
                " librdkafka's properties behind a ?, if any"
            )
        self._common = {**_COMMON, "bootstrap.servers": ",".join(servers)}
        self._consumers = dict(_CONSUMERS)
        for name, value in parse_qsl(found["properties"] or "", keep_blank_values=True):
            (self._consumers if name in _CONSUMERS else self._common)[name] = value

    def common(self) -> Mapping[str, str]:
        """Return the properties of every client."""
        return {**self._common}

    def of_consumers(self) -> Mapping[str, str]:
        """Return the properties of consumers."""
        return {**self._common, **self._consumers}
