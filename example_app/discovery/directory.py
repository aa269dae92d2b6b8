"""Where services are: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import Protocol

from example_app.failures import CallFailed


class UnknownService(CallFailed):
    """Nobody knows where this service is: a call of it fails, as it does where nobody answers."""


class Directory(Protocol):
    """Finds services; asked before every call, so that they may move."""

    def locate(self, service: str) -> str:
        """Return a service's URL, without a slash at its end; ``host:port`` of a gRPC one.

        :raises UnknownService: it is not known, or not there at the moment.
        """
