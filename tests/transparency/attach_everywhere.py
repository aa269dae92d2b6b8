"""A pytest plugin for the suites of other projects: `BodyTrace` on every Flask application.

``BODYTRACE_ATTACH=0`` loads the plugin without attaching, for comparison.
"""

from __future__ import annotations

import os
from typing import Any

import _pytest.monkeypatch
import flask
from opentelemetry.sdk.trace import TracerProvider

from flask_bodytrace import BodyTrace

if not hasattr(_pytest.monkeypatch, "notset"):
    # Flask 3.1's tests import this name, which pytest 9.2 spells differently.
    _pytest.monkeypatch.notset = _pytest.monkeypatch.NOTSET  # type: ignore[attr-defined]

_provider = TracerProvider()
_init = flask.Flask.__init__
_attached: list[str] = []


def _init_attached(self: flask.Flask, *arguments: Any, **keywords: Any) -> None:
    _init(self, *arguments, **keywords)
    BodyTrace(self, tracer_provider=_provider, ids="order.id=orderId,user.id=userId")
    _attached.append(self.name)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    terminalreporter.write_line(f"attached to {len(_attached)} applications")


if os.environ.get("BODYTRACE_ATTACH") != "0":
    flask.Flask.__init__ = _init_attached  # type: ignore[method-assign]
