"""Wrong tokens, by the address they came from: whoever tries several has to wait."""

from __future__ import annotations

import math
from ipaddress import ip_address, ip_network
from threading import Lock
from time import monotonic

MOST = 10
"""Different wrong tokens after which an address has to wait."""
_WAIT_SECONDS = 60.0
_MOST_ADDRESSES = 1000


class Guesses:
    """The wrong tokens of the last minute.

    Different ones count: a service that has an old token sends it with every export, and must not
    keep those out that share its address. Each address counts alone: a stranger keeps nobody out.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._tried: dict[str, dict[int, float]] = {}

    def note(self, address: str, token: str) -> None:
        """Count a wrong token."""
        name = _network(address)
        with self._lock:
            tried = self._tried.pop(name, {})
            number = hash(token)
            tried.pop(number, None)
            tried[number] = monotonic()
            if len(tried) > MOST:
                del tried[next(iter(tried))]
            # The latest is last, here and there: what is first has been quiet longest.
            self._tried[name] = tried
            if len(self._tried) > _MOST_ADDRESSES:
                del self._tried[next(iter(self._tried))]

    def wait(self, address: str) -> int:
        """Seconds until a token from there is looked at again; 0 for none."""
        with self._lock:
            tried = self._tried.get(_network(address), {})
            if len(tried) < MOST:
                return 0
            oldest = next(iter(tried.values()))
        return max(0, math.ceil(oldest + _WAIT_SECONDS - monotonic()))


def _network(address: str) -> str:
    """Who it is: of IPv6, one subscriber has 2**64 addresses (RFC 6177)."""
    try:
        found = ip_address(address)
    except ValueError:  # a Unix socket's peer has none
        return address
    return address if found.version == 4 else str(ip_network((int(found), 64), strict=False))
