"""A Consul agent's HTTP API, as far as a directory needs it.

https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from __future__ import annotations

import http.client
import json
import socket
import threading
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote, urlsplit

_TIMEOUT_S = 5.0
_OK, _NOT_FOUND = 200, 404


class AgentFailed(Exception):
    """The agent did not answer, or not as it should; the message says what it said."""


class NotKnown(AgentFailed):
    """The agent has no such check: it has forgotten the service, or never knew it."""


@dataclass(frozen=True)
class Listed:
    """The healthy instances of a service.

    :ivar index: with which to ask for what comes after this.
    """

    addresses: tuple[str, ...]
    index: int


class Agent:
    """Asks one agent; for many threads.

    :param url: ``consul://host:port``, or ``consul://:token@host:port`` where it wants one.
    :raises ValueError: `url` is none.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "consul" or not parts.hostname or parts.path.strip("/"):
            shown = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()[:80]
            raise ValueError(f"EXAMPLE_DIRECTORY: {shown!r}: write consul://host:port")
        self._host, self._port = parts.hostname, parts.port or 8500
        self._headers = {"X-Consul-Token": unquote(parts.password)} if parts.password else {}

    def __str__(self) -> str:
        return f"Consul at {self._host}:{self._port}"

    def register(self, service: dict[str, Any]) -> None:
        """Register a service of this agent, or change it; with all its checks."""
        self._ask("PUT", "/v1/agent/service/register?replace-existing-checks=true", service)

    def deregister(self, service_id: str) -> None:
        """Take a service out."""
        self._ask("PUT", f"/v1/agent/service/deregister/{quote(service_id, safe='')}")

    def beat(self, check_id: str) -> None:
        """Say that a check's service lives; `NotKnown` if the agent has no such check."""
        self._ask("PUT", f"/v1/agent/check/pass/{quote(check_id, safe='')}")

    def healthy(self, service: str, question: BlockingQuestion) -> Listed:
        """Return the healthy instances, once they are others than at the question's index."""
        path = (
            f"/v1/health/service/{quote(service, safe='')}"
            f"?passing=true&index={question.index}&wait={question.wait_s:.0f}s"
        )
        headers, answer = self._ask("GET", path, question=question)
        try:
            return Listed(tuple(_address(it) for it in answer), int(headers["X-Consul-Index"]))
        except (KeyError, TypeError, ValueError) as error:
            raise AgentFailed(f"{self} answers {str(answer)[:80]!r} to GET {path}") from error

    def _ask(
        self, method: str, path: str, sent: object = None, question: BlockingQuestion | None = None
    ) -> tuple[http.client.HTTPMessage, Any]:
        # A connection for each: all but the long questions are seconds apart.
        connection = http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)
        with closing(connection):
            try:
                if question:
                    question.connect(connection)
                body = None if sent is None else json.dumps(sent)
                connection.request(method, path, body, self._headers)
                answer = connection.getresponse()
                text = answer.read().decode()
            except (OSError, http.client.HTTPException, UnicodeDecodeError) as error:
                raise AgentFailed(f"{self} does not answer: {error!r}") from error
        if answer.status != _OK:
            kind = NotKnown if answer.status == _NOT_FOUND else AgentFailed
            raise kind(f"{self} answers {answer.status} to {method} {path}: {text.strip()[:200]}")
        return answer.headers, json.loads(text) if text.strip() else None


class BlockingQuestion:
    """A question that the agent may answer half a minute later; another thread may call it off.

    :ivar index: of the answer known so far, 0 for none: then the agent answers at once.
    """

    def __init__(self, wait_s: float = 30.0) -> None:
        self.wait_s = wait_s
        self.index = 0
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._called_off = False

    def connect(self, connection: http.client.HTTPConnection) -> None:
        """Open the connection on which it is asked; `OSError` once it was called off."""
        with self._lock:
            if self._called_off:
                raise ConnectionAbortedError("the question was called off")
            connection.connect()
            self._socket = connection.sock
        # An agent adds up to a sixteenth, so that not all ask again at once.
        connection.sock.settimeout(self.wait_s * 17 / 16 + _TIMEOUT_S)

    def call_off(self) -> None:
        """Let the thread that waits for the answer go on."""
        with self._lock:
            self._called_off = True
            if self._socket is not None:
                with suppress(OSError):  # It was answered meanwhile.
                    self._socket.shutdown(socket.SHUT_RDWR)


def _address(entry: dict[str, Any]) -> str:
    service = entry["Service"]
    host, scheme = service["Address"] or entry["Node"]["Address"], service["Meta"].get("scheme")
    place = f"[{host}]:{service['Port']}" if ":" in host else f"{host}:{service['Port']}"
    # Whoever registers without us says nothing, and serves HTTP.
    return place if scheme == "grpc" else f"{scheme or 'http'}://{place}"
