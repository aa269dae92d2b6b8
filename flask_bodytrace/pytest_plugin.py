"""Fixtures for the tests of an application that uses `BodyTrace`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .testing import SpanRecorder, capture_spans


@pytest.fixture
def bodytrace_spans() -> Iterator[SpanRecorder]:
    """The spans finished on the global tracer provider during this test."""
    with capture_spans() as spans:
        yield spans
