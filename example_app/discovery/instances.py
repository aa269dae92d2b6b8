"""Trying another instance of a service where one was not reached."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from example_app.discovery.directory import UnknownService
from example_app.failures import CallFailed

if TYPE_CHECKING:
    from collections.abc import Callable

    from example_app.discovery.directory import Directory

T = TypeVar("T")


class NotReached(CallFailed):
    """Nothing came of a call of this instance; another instance may be called instead."""


def on_any(directory: Directory, service: str, attempt: Callable[[list[str]], T]) -> T:
    """Call instances of `service` until one is reached; return what the call does.

    :param attempt: calls an instance that is not in its argument, after adding it there.
    :raises NotReached: of the last one; whatever else a call raises is raised at once.
    """
    tried: list[str] = []
    while True:
        try:
            return attempt(tried)
        except NotReached:
            try:
                directory.locate(service, avoid=tried)
            except UnknownService:
                pass
            else:
                continue
            raise
