"""Services that Consul knows: registered with checks, watched for changes, each in its turn."""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from example_app.discovery.consul_agent import Agent, AgentFailed, BlockingQuestion, NotKnown
from example_app.discovery.directory import UnknownService

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

TTL_S = 6.0
"""Seconds without a sign of life after which nobody is sent here."""

_BEAT_EVERY_S = TTL_S / 3
_ASKED_EVERY_S = 1
_FORGOTTEN_AFTER = "1m"
_FIRST_ANSWER_S = 2.0
_PAUSE_S = 0.5
_log = logging.getLogger(__name__)


class ConsulDirectory:
    """A `Directory`.

    What is known stays in use while Consul does not answer. So it does while Consul lists nobody:
    either it has lost its memory, or all are gone, and then calls fail in any case.

    :param url: ``consul://host:port``.
    :raises ValueError: `url` is none.
    """

    def __init__(self, url: str) -> None:
        self._agent = Agent(url)
        self._lock = threading.Lock()
        self._watches: dict[str, _Watch] = {}

    def locate(self, service: str, avoid: Collection[str] = ()) -> str:
        """Return the address of the instance whose turn it is; `UnknownService` if none is."""
        with self._lock:
            watch = self._watches.get(service)
            if watch is None:
                watch = self._watches[service] = _Watch(self._agent, service)
        return watch.next(avoid)

    @contextmanager
    def announcing(self, services: Mapping[str, str]) -> Iterator[None]:
        """Register the services, and say every two seconds that they live."""
        ours = [_registration(name, address) for name, address in services.items()]
        over = threading.Event()
        known = self._register(ours)
        beats = threading.Thread(
            target=self._beat, args=(ours, over, known), name="consul beats", daemon=True
        )
        beats.start()
        try:
            yield
        finally:
            over.set()
            beats.join()
            for registration in ours:
                try:
                    self._agent.deregister(registration["ID"])
                except AgentFailed as error:
                    _log.warning("%s stays registered: %s", registration["ID"], error)

    def close(self) -> None:
        """Stop watching."""
        with self._lock:
            watches, self._watches = self._watches, {}
        for watch in watches.values():
            watch.close()

    def _register(self, ours: list[dict[str, Any]]) -> bool:
        try:
            for registration in ours:
                self._agent.register(registration)
        except AgentFailed as error:
            # Others may still know us from before, and it may come back.
            _log.warning("not registered: %s", error)
            return False
        return True

    def _beat(self, ours: list[dict[str, Any]], over: threading.Event, known: bool) -> None:
        while not over.wait(_BEAT_EVERY_S):
            try:
                if known:
                    for registration in ours:
                        self._agent.beat(_alive(registration["ID"]))
                else:
                    known = self._register(ours)
            except NotKnown:
                known = self._register(ours)
            except AgentFailed as error:
                _log.warning("no sign of life: %s", error)


class _Watch:
    """The healthy instances of one service, as they change."""

    def __init__(self, agent: Agent, service: str) -> None:
        self._agent = agent
        self._service = service
        self._turns = itertools.count()
        self._question = BlockingQuestion()
        self._addresses: tuple[str, ...] = ()
        self._problem = ""
        self._asked, self._over = threading.Event(), threading.Event()
        name = f"watch {service}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def next(self, avoid: Collection[str]) -> str:
        # The first caller waits for the first answer; later ones take what is known.
        self._asked.wait(_FIRST_ANSWER_S)
        there = [address for address in self._addresses if address not in avoid]
        if not there:
            why = self._problem or f"{self._agent} lists {'no other' if avoid else 'none'}"
            raise UnknownService(f"nobody knows where {self._service} is: {why}")
        return there[next(self._turns) % len(there)]

    def close(self) -> None:
        self._over.set()
        self._question.call_off()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                listed = self._agent.healthy(self._service, self._question)
            except AgentFailed as error:
                self._failed(error)
                self._over.wait(_PAUSE_S)
            else:
                self._problem = ""
                # Backwards: an agent that has started anew counts from the beginning.
                backwards = listed.index < self._question.index
                self._question.index = 0 if backwards else listed.index
                self._addresses = listed.addresses or self._addresses
            self._asked.set()

    def _failed(self, error: AgentFailed) -> None:
        if not self._over.is_set() and not self._problem:
            _log.warning("%s: as it was known last: %s", self._service, error)
        self._problem = str(error)
        self._question.index = 0


def _registration(name: str, address: str) -> dict[str, Any]:
    """What the agent is told; the same instance started again is the same to it."""
    is_http = "://" in address
    parts = urlsplit(address if is_http else f"grpc://{address}")
    service_id = f"{name}-{parts.hostname}-{parts.port}"
    asked = {"HTTP": f"{address}/ready"} if is_http else {"TCP": parts.netloc}
    return {
        "ID": service_id,
        "Name": name,
        "Address": parts.hostname,
        "Port": parts.port,
        "Meta": {"scheme": parts.scheme},
        "Checks": [
            {
                "CheckID": _alive(service_id),
                "Name": "the process says that it lives",
                "TTL": f"{TTL_S:.0f}s",
                "Status": "passing",
                "DeregisterCriticalServiceAfter": _FORGOTTEN_AFTER,
            },
            {
                "CheckID": f"{service_id}:answers",
                "Name": "it answers",
                "Interval": f"{_ASKED_EVERY_S}s",
                "Timeout": "1s",
                "Status": "passing",
                **asked,
            },
        ],
    }


def _alive(service_id: str) -> str:
    return f"{service_id}:alive"
