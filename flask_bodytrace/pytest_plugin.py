"""Fixtures for the tests of an application that uses `BodyTrace`; see `flask_bodytrace.testing`.

Loaded by every pytest that finds this package installed, so what they need is imported in them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flask import Flask

    from .testing import SpanRecorder, TracingClient


@pytest.fixture
def bodytrace_spans() -> Iterator[SpanRecorder]:
    """The spans that finish during this test, whatever tracer provider an application uses."""
    from .testing import capture_spans

    with capture_spans() as spans:
        yield spans


@pytest.fixture
def bodytrace_client() -> Callable[[Flask], TracingClient]:
    """Makes test clients whose every request starts a trace: ``bodytrace_client(app)``."""
    from .testing import tracing_client

    return tracing_client


@pytest.fixture
def bodytrace_ids() -> Iterator[None]:
    """Trace and span ids of this test are 1, 2, 3 and so on."""
    from .testing import deterministic_ids

    with deterministic_ids():
        yield
