"""How the canary does, as Prometheus has measured it at Envoy."""

from __future__ import annotations

from dataclasses import dataclass

import httpx

from example_app.deploy.canary.files import CANARY

# By endpoint: what the cluster of both versions answers says nothing of the canary. An error is an
# answer of 500 or above, or none, or a connection that nobody took.
INSTANCES = "sum(envoy_cluster_membership_total{{{cluster}}})"
ANSWERED = "sum(envoy_cluster_endpoint_rq_success{{{cluster}}})"
FAILED = "sum(envoy_cluster_endpoint_rq_error{{{cluster}}})"
_CLUSTER = f'envoy_cluster_name="{CANARY}"'


class NotMeasured(Exception):
    """Nobody knows how the canary does; the message says why."""


@dataclass(frozen=True)
class Counts:
    """Requests since Envoy was started.

    :ivar failed: those answered 5xx, or not at all.
    """

    asked: float
    failed: float

    def since(self, before: Counts) -> Counts:
        """Return what came after `before`; where Envoy was started anew, all there is."""
        if self.asked < before.asked:
            return self
        return Counts(self.asked - before.asked, self.failed - before.failed)


class Prometheus:
    """Asks one Prometheus that scrapes Envoy.

    :param url: as in ``http://127.0.0.1:9090``.
    """

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(timeout=5, trust_env=False)

    def counts(self) -> Counts:
        """Return the canary's counts as of the last scrape; `NotMeasured` if there are none."""
        if not self._ask(INSTANCES):
            raise NotMeasured(f"{self._url} has nothing of Envoy's cluster {CANARY}")
        failed = self._ask(FAILED)
        return Counts(asked=self._ask(ANSWERED) + failed, failed=failed)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _ask(self, query: str) -> float:
        """Return the value of a query of the canary's; 0 if it has none."""
        query = query.format(cluster=_CLUSTER)
        try:
            answer = self._client.get(f"{self._url}/api/v1/query", params={"query": query})
            found = answer.raise_for_status().json()["data"]["result"]
            return float(found[0]["value"][1]) if found else 0.0
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise NotMeasured(f"{self._url} does not answer {query}: {error!r}") from error
