"""A fixed list of services, as in ``orders=http://127.0.0.1:8001,payments=…``."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING

from example_app.discovery.directory import UnknownService

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager


class StaticDirectory:
    """A `Directory` that never changes, of one instance each."""

    def __init__(self, services: Mapping[str, str]) -> None:
        self._services = dict(services)

    def locate(self, service: str, avoid: Collection[str] = ()) -> str:
        """Return the service's address; `UnknownService` if it is not in the list."""
        address = self._services.get(service)
        if address is None:
            raise UnknownService(f"nobody knows where {service} is")
        if address in avoid:
            raise UnknownService(f"there is no other {service} than the one that does not answer")
        return address

    def announcing(self, services: Mapping[str, str]) -> AbstractContextManager[None]:
        """Do nothing: who reads the list knows them."""
        del services
        return nullcontext()

    def close(self) -> None:
        """Do nothing: a list does not change."""
