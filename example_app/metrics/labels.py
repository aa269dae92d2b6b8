"""The labels of each metric: all its attributes that are kept, as Prometheus wants the same on all.

Of a metric that is not here, those of its first measurement are. What is recorded without one of
them has it empty; other attributes are left out, and their values added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_LOOP = ("messaging.consumer.group.name", "example.outbox")

LABELS: Mapping[str, Sequence[str]] = {
    "http.server.request.duration": (
        *("http.request.method", "http.route", "http.response.status_code", "error.type"),
    ),
    "http.server.active_requests": ("http.request.method",),
    "http.server.request.body.size": ("http.request.method", "http.route"),
    "rpc.server.call.duration": ("rpc.method", "rpc.response.status_code"),
    "db.client.operation.duration": ("db.namespace", "db.operation.name", "error.type"),
    "messaging.process.duration": (
        *("messaging.consumer.group.name", "messaging.destination.name", "error.type"),
    ),
    "example.calls.duration": ("peer.service", "outcome"),
    "example.events.failures": (*_LOOP, "error.type"),
    "example.events.dead_letters": (*_LOOP, "messaging.destination.name"),
    "example.events.backing_off": _LOOP,
}

BUCKETS = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.16, 0.25, 0.32),
    *(0.5, 0.75, 1.0, 2.5, 5.0, 10.0),
)
"""Seconds. 0.32 is what the article promises for 99 of 100 requests."""

BYTES_BUCKETS = tuple(float(4**power) for power in range(3, 13))
