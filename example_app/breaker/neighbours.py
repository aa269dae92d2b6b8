"""Other services, every call of which goes through their breaker."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from example_app.outbound import HttpService
from example_app.rpc import GrpcService

if TYPE_CHECKING:
    from collections.abc import Mapping

    import httpx
    from opentelemetry.trace import Tracer

    from example_app.breaker.breaker import Breaker
    from example_app.discovery.directory import Directory
    from example_app.rpc import Method

Q = TypeVar("Q")
R = TypeVar("R")


class GuardedHttp(HttpService):
    """A neighbour over HTTP, within the time that its rules allow."""

    def __init__(self, directory: Directory, tracer: Tracer, breaker: Breaker) -> None:
        super().__init__(breaker.neighbour, directory, tracer, breaker.rules.timeout_s)
        self._breaker = breaker

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        route: str | None = None,
    ) -> httpx.Response:
        """Call the service; `CallFailed`, and `BreakerOpen` if it was not called."""
        with self._breaker.attempt():
            return super().send(method, path, content=content, headers=headers, route=route)


class GuardedGrpc(GrpcService):
    """A neighbour over gRPC, within the time that its rules allow.

    :param name: where the directory has its gRPC server.
    """

    def __init__(self, name: str, directory: Directory, tracer: Tracer, breaker: Breaker) -> None:
        super().__init__(name, directory, tracer, breaker.rules.timeout_s)
        self._breaker = breaker

    def call(self, method: Method[Q, R], request: Q) -> R:
        """Call a method; `CallFailed`, and `BreakerOpen` if it was not called."""
        with self._breaker.attempt():
            return super().call(method, request)
