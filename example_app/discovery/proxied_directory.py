"""A directory for services of which some are reached through a proxy, wherever they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_app.discovery.static_directory import StaticDirectory

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager

    from example_app.discovery.directory import Directory


class ProxiedDirectory:
    """A `Directory` that knows where the proxies are, and asks another one for all other services.

    :param proxies: the proxy's address of each service that has one. It chooses the instance, and
        where it does not answer, none is called around it.
    """

    def __init__(self, proxies: Mapping[str, str], others: Directory) -> None:
        self._proxied = StaticDirectory(proxies)
        self._names = frozenset(proxies)
        self._others = others

    def locate(self, service: str, avoid: Collection[str] = ()) -> str:
        """Return the proxy's address, or that of an instance; `UnknownService` if there is none."""
        directory = self._proxied if service in self._names else self._others
        return directory.locate(service, avoid)

    def announcing(self, services: Mapping[str, str]) -> AbstractContextManager[None]:
        """Let others find these services of ours, for as long as the block lasts."""
        return self._others.announcing(services)

    def close(self) -> None:
        """Stop looking for changes."""
        self._others.close()
