"""HTTP calls of other services: CLIENT spans, trace and label in the headers, within a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx
from opentelemetry import propagate
from opentelemetry.trace import SpanKind, StatusCode

from example_app import labels
from example_app.discovery.instances import NotReached, on_any
from example_app.failures import CallFailed
from flask_bodytrace.client import watch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from opentelemetry.trace import Tracer

    from example_app.discovery.directory import Directory


@dataclass(frozen=True)
class _Call:
    method: str
    path: str
    route: str
    content: bytes
    headers: Mapping[str, str]


class HttpService:
    """One other service.

    :param timeout_s: how long a call may wait, for the connection and for each part of the answer.
    """

    def __init__(self, name: str, directory: Directory, tracer: Tracer, timeout_s: float) -> None:
        self.name = name
        self._directory = directory
        self._tracer = tracer
        # A proxy set in the environment is for elsewhere.
        self._client = watch(httpx.Client(timeout=timeout_s, trust_env=False))

    def send(
        self,
        method: str,
        path: str,
        *,
        content: bytes = b"",
        headers: Mapping[str, str] | None = None,
        route: str | None = None,
    ) -> httpx.Response:
        """Call the service; another instance of it where one was not reached.

        One that may have begun with the request is given up for another only if the request changes
        nothing.

        :param path: escaped, with its query.
        :param route: what to call it where `path` has ids in it.
        :raises CallFailed: nobody knows where it is, there was no answer, or the service itself has
            failed (5xx).
        """
        call = _Call(method, path, route or path, content, headers or {})
        return on_any(self._directory, self.name, lambda tried: self._attempt(call, tried))

    def _attempt(self, call: _Call, tried: list[str]) -> httpx.Response:
        attributes = {"http.request.method": call.method, "peer.service": self.name}
        with self._tracer.start_as_current_span(
            f"{call.method} {call.route}", kind=SpanKind.CLIENT, attributes=attributes
        ) as span:
            if tried:
                span.set_attribute("http.request.resend_count", len(tried))
            base = self._directory.locate(self.name, avoid=tried)
            tried.append(base)
            span.set_attribute("url.full", base + call.path)
            sent = dict(call.headers)
            propagate.inject(sent)
            if label := labels.current():
                sent[labels.HEADER] = label
            try:
                response = self._client.request(
                    call.method, base + call.path, content=call.content, headers=sent
                )
            except httpx.TransportError as error:
                kind = NotReached if _may_be_repeated(call.method, error) else CallFailed
                raise kind(f"{self.name}: {type(error).__name__}") from error
            span.set_attribute("http.response.status_code", response.status_code)
            if response.status_code >= 400:
                span.set_attribute("error.type", str(response.status_code))
                span.set_status(StatusCode.ERROR)
            if response.status_code >= 500:
                raise CallFailed(f"{self.name} answers {response.status_code}")
            return response

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _may_be_repeated(method: str, error: httpx.TransportError) -> bool:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return True
    # After a time-out nobody waits for a second one.
    return method in {"GET", "HEAD"} and not isinstance(error, httpx.TimeoutException)
