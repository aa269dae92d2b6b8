"""What a request costs, counted in calls of Python functions: no clock, so nothing to flake.

A bound that is passed means work was added to every request. Find it with
``python -m benchmarks.calls ours``, take it off the requests that do not need it, or, if all do,
raise the bound and say so in docs/performance.md.
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, request
from opentelemetry.sdk.trace import TracerProvider
from werkzeug.routing import MapAdapter

from flask_bodytrace import BodyTrace

ROOT = Path(__file__).parents[2]


@cache
def calls(subject: str, flags: str = "01") -> int:
    """Calls of one request beyond those of bare Flask; in a process that is all its own."""
    output = subprocess.run(
        [sys.executable, "-m", "benchmarks.calls", subject, flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return int(output.splitlines()[-1].split()[0])


@pytest.mark.parametrize(
    ("subject", "flags", "bound"),
    [("ours", "01", 47), ("ours", "00", 17), ("ours_full", "01", 77), ("ours_full", "00", 49)],
)
def test_a_request_makes_no_more_calls_than_it_did(subject: str, flags: str, bound: int) -> None:
    """Beyond the price of being an extension with a hook before and one after each request.

    Nine of them, fifteen with every feature on, are Werkzeug's: it copies each header of a response
    object by three calls, and ours are there for the application's tests to see. Of a request that
    is not sampled, twelve with every feature on find the ids for its baggage.
    """
    assert calls(subject, flags) <= calls("hooks") + bound


@pytest.mark.parametrize(("flags", "ratio"), [("01", 0.12), ("00", 0.06)])
def test_a_request_makes_a_fraction_of_opentelemetrys_calls(flags: str, ratio: float) -> None:
    assert calls("ours", flags) - calls("hooks") <= ratio * calls("otel_flask", flags)


def test_a_sampled_request_makes_no_more_calls_than_a_hand_written_span() -> None:
    # Flask calls hooks by ten more functions from Python 3.12 on, of which the span has none.
    assert calls("ours_full") <= calls("span")


@pytest.mark.parametrize("ids", ["", "order.id=orderId"])
@pytest.mark.parametrize("traceparent", ["", f"00-{'1' * 32}-{'2' * 16}-01"])
def test_a_url_is_matched_once(monkeypatch: pytest.MonkeyPatch, ids: str, traceparent: str) -> None:
    matched = []
    inner = MapAdapter.match

    def match(adapter: MapAdapter, *args: Any, **kwargs: Any) -> Any:
        matched.append(adapter)
        return inner(adapter, *args, **kwargs)

    monkeypatch.setattr(MapAdapter, "match", match)
    app = Flask("shop")
    BodyTrace(app, ids=ids, tracer_provider=TracerProvider(shutdown_on_exit=False))

    @app.post("/orders")
    def create() -> Any:
        return request.get_json()

    headers = {"traceparent": traceparent} if traceparent else {}
    answer = app.test_client().post("/orders", json={"orderId": "ORD1"}, headers=headers)
    assert answer.status_code == 200
    assert len(matched) == 1


def test_the_count_sees_what_is_there() -> None:
    assert calls("bare") == 0
    assert 0 < calls("ours", "00") < calls("ours") < calls("ours_full")
