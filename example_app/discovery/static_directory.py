"""A fixed list of services, as in ``orders=http://127.0.0.1:8001,payments=…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from example_app.discovery.directory import UnknownService

if TYPE_CHECKING:
    from collections.abc import Mapping


class StaticDirectory:
    """A `Directory` that never changes."""

    def __init__(self, services: Mapping[str, str]) -> None:
        self._services = dict(services)

    def locate(self, service: str) -> str:
        """Return the service's address; `UnknownService` if it is not in the list."""
        try:
            return self._services[service]
        except KeyError:
            raise UnknownService(f"nobody knows where {service} is") from None
