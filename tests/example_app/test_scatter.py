"""Asking all databases at once."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from contextlib import closing
from typing import Any

import pytest

from example_app.orders.scatter import Scatter


def test_databases_that_hang_are_waited_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    result = Future.result

    def noting(future: Future[Any], timeout: float) -> Any:
        waits.append(timeout)
        return result(future, timeout)

    monkeypatch.setattr(Future, "result", noting)
    over = threading.Event()

    def ask(name: str) -> str:
        if name != "there":
            over.wait()
        return name

    names = ("hangs", "hangs too", "there")
    with closing(Scatter({name: name for name in names}, timeout_s=0.2)) as scatter:
        try:
            gathered = scatter.ask(ask)
        finally:
            over.set()
    assert gathered.value == ["there"]
    assert gathered.unanswered == ("hangs", "hangs too")
    first, second, _ = waits
    assert second < first
