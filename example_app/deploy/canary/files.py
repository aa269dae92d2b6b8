"""Envoy's files: its own, written once, and who gets which version, which changes while it runs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any
from urllib.parse import urlsplit

from example_app import labels

STABLE, CANARY, EITHER = "stable", "canary", "canary-else-stable"
"""Envoy's clusters; the third is the canary for as long as it is healthy."""

_TEMPLATES = [Path(__file__).with_name(name) for name in ("envoy.yaml", "prometheus.yml")]
_ROUTES = "routes.yaml"
# Nothing of a request has been handled when one of these goes wrong.
_RETRIED = "connect-failure,refused-stream"


@dataclass(frozen=True)
class Places:
    """Where Envoy listens, and where it finds what it needs; addresses are ``host:port``.

    :ivar traces: the URL that takes spans as OTLP over HTTP.
    :ivar scrape_every: how often Prometheus looks.
    """

    port: int
    admin_port: int
    stable: str
    canary: str
    traces: str
    bind: str = "127.0.0.1"
    scrape_every: str = "5s"


def write_envoy(folder: Path, places: Places) -> Path:
    """Write Envoy's own file, routes by which everybody gets the version in use, and Prometheus's.

    :returns: the file to start Envoy with; prometheus.yml is beside it.
    :raises ValueError: an address is none.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values: dict[str, object] = {
        "folder": folder.resolve(),
        "bind": places.bind,
        "port": places.port,
        "admin_port": places.admin_port,
        "traces": places.traces,
        "admin": f"{places.bind}:{places.admin_port}",
        "scrape_every": places.scrape_every,
    }
    for name in ("stable", "canary", "traces"):
        host, port = _place(name, getattr(places, name))
        values |= {f"{name}_host": host, f"{name}_port": port}
    write_routes(folder, None)
    for template in _TEMPLATES:
        text = Template(template.read_text("utf-8")).substitute(values)
        (folder / template.name).write_text(text, "utf-8")
    return folder / _TEMPLATES[0].name


def write_routes(folder: Path, share: int | None) -> None:
    """Say who gets which version; Envoy reads it at once.

    :param share: how many of a hundred requests without a label go to the canary; None: nobody gets
        it, not even users of its label.
    """
    text = json.dumps(_discovered(share), indent=1)
    # Envoy looks when a file is moved to this place: it never reads half of one. JSON is YAML.
    fresh = folder / f"{_ROUTES}.new"
    fresh.write_text(f"{text}\n", "utf-8")
    os.replace(fresh, folder / _ROUTES)  # noqa: PTH105 - named as what it is


def _discovered(share: int | None) -> dict[str, Any]:
    routes = [_route({"cluster": STABLE})]
    if share is not None:
        weights = [
            {"name": EITHER, "weight": share},
            {"name": STABLE, "weight": 100 - share},
        ]
        routes = [
            _route({"cluster": EITHER}, label="canary"),
            _route({"cluster": STABLE}, label="stable"),
            _route({"weighted_clusters": {"clusters": weights}}),
        ]
    hosts = [{"name": "orders", "domains": ["*"], "routes": routes}]
    resource = {
        "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        "name": "orders",
        "virtual_hosts": hosts,
    }
    return {"version_info": f"canary {share}", "resources": [resource]}


def _route(to: dict[str, Any], label: str | None = None) -> dict[str, Any]:
    match: dict[str, Any] = {"prefix": "/"}
    if label is not None:
        match["headers"] = [{"name": labels.HEADER.lower(), "string_match": {"exact": label}}]
    again = {
        "retry_on": _RETRIED,
        "num_retries": 2,
        # Not the canary a second time, the next of the two.
        "retry_priority": {
            "name": "envoy.retry_priorities.previous_priorities",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.priority."
                "previous_priorities.v3.PreviousPrioritiesConfig",
                "update_frequency": 1,
            },
        },
    }
    return {"match": match, "route": {**to, "timeout": "10s", "retry_policy": again}}


def _place(name: str, address: str) -> tuple[str, int]:
    parts = urlsplit(address if "://" in address else f"//{address}")
    if not parts.hostname or not parts.port:
        raise ValueError(f"{name}: {address[:80]!r} has no host and port, as in 127.0.0.1:8001")
    return parts.hostname, parts.port
