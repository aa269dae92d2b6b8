"""Where services are: the Protocol; each engine is a file of its own beside this one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from example_app.failures import CallFailed

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager


class UnknownService(CallFailed):
    """Nobody knows where this service is: a call of it fails, as it does where nobody answers."""


class Directory(Protocol):
    """Finds services; asked before every call, so that they may move."""

    def locate(self, service: str, avoid: Collection[str] = ()) -> str:
        """Return the address of an instance: of several, each in its turn.

        :param avoid: addresses that were tried already, and did not answer.
        :returns: a URL without a slash at its end; ``host:port`` of a gRPC service.
        :raises UnknownService: none is known, or none but those to avoid.
        """

    def announcing(self, services: Mapping[str, str]) -> AbstractContextManager[None]:
        """Let others find these services of ours, for as long as the block lasts.

        :param services: the address of each, as others reach it; they take requests already.
        """

    def close(self) -> None:
        """Stop looking for changes."""
