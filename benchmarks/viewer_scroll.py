"""How many frames a second a trace of 10,000 spans scrolls with, in Chromium.

Each frame scrolls further, and notes when it was drawn (``requestAnimationFrame``); once with a
store at rest, once while it takes in 20,000 spans a second from another process. What the page's
thread was busy for in a frame does not depend on what else the machine does: 60 frames a second
leave 16.7 ms. `benchmarks.viewer` runs it; alone: ``python -m benchmarks.viewer_scroll``.
"""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import requests

from benchmarks.viewer_load import BATCH, LARGEST, batch
from flask_bodytrace.viewer import server
from flask_bodytrace.viewer.store import ALONE, TraceStore

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = Path("/usr/bin/chromium")
RATE = 20_000
"""Spans a second."""
SECONDS = 5
_BODIES = 60
_ROUNDS = 3
_SCROLL = """([seconds, step]) => new Promise((done) => {
  const drawn = [];
  let by = step;
  const frame = (now) => {
    drawn.push(now);
    const end = document.documentElement.scrollHeight - innerHeight;
    if (scrollY + by > end || scrollY + by < 0) by = -by;
    scrollBy(0, by);
    if (now - drawn[0] < seconds * 1000) requestAnimationFrame(frame);
    else done(drawn);
  };
  scrollTo(0, 0);
  requestAnimationFrame(frame);
})"""


class Frames(NamedTuple):
    """How smoothly it scrolled: frames a second, and ms.

    :param middle: between two frames, as the two that follow.
    :param busy: for which the page's thread worked, in a frame; of this, in the script.
    """

    rate: float
    middle: float
    worst_of_hundred: float
    worst: float
    busy: float
    script: float

    def __str__(self) -> str:
        return (
            f"{self.rate:5.1f} frames/s; between two: median {self.middle:.1f} ms, "
            f"P99 {self.worst_of_hundred:.1f} ms, worst {self.worst:.1f} ms; "
            f"busy {self.busy:.1f} ms a frame, script {self.script:.1f} ms"
        )


def scroll(page: Page, step: int) -> Frames:
    """Scroll for some seconds, `step` pixels a frame."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})

    def busy() -> dict[str, float]:
        found = session.send("Performance.getMetrics")["metrics"]
        return {metric["name"]: metric["value"] * 1000 for metric in found}

    before = busy()
    drawn = page.evaluate(_SCROLL, [SECONDS, step])
    after = busy()
    session.detach()
    gaps = sorted(later - earlier for earlier, later in pairwise(drawn))
    return Frames(
        rate=1000 * len(gaps) / (drawn[-1] - drawn[0]),
        middle=median(gaps),
        worst_of_hundred=gaps[len(gaps) * 99 // 100],
        worst=gaps[-1],
        busy=(after["TaskDuration"] - before["TaskDuration"]) / len(gaps),
        script=(after["ScriptDuration"] - before["ScriptDuration"]) / len(gaps),
    )


def scrolling() -> None:
    """Print how a trace of 10,000 spans scrolls."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        print("scrolling: not measured, playwright is not installed")
        return
    if not CHROMIUM.exists():
        print(f"scrolling: not measured, {CHROMIUM} is not installed")
        return
    store = TraceStore(ALONE)
    made = server.make(port=0, store=store)
    with server.running(made) as url, sync_playwright() as playwright:
        _post(url, gzip.compress(batch(LARGEST, LARGEST)))
        (summary,) = store.summaries()
        chromium = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        page.goto(f"{url}/trace/{summary.trace_id}")
        page.wait_for_function("document.querySelectorAll('.rows > li').length > 10")
        for name, step in (("a row a frame", 28), ("a page a frame", 700)):
            _print(f"scrolling, {name}", [scroll(page, step) for _ in range(_ROUNDS)])
        with _sending(url):
            before, start = store.version, time.perf_counter()
            rounds = [scroll(page, 28) for _ in range(_ROUNDS)]
            taken = (store.version - before) * BATCH / (time.perf_counter() - start)
            _print(f"scrolling while {taken:,.0f} spans/s come in", rounds)
        chromium.close()


def _print(what: str, rounds: list[Frames]) -> None:
    rounds.sort(key=lambda frames: frames.rate)
    print(f"{what}: {rounds[len(rounds) // 2]} (median of {len(rounds)} rounds)")


def _post(url: str, body: bytes) -> None:
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    requests.post(f"{url}/v1/traces", data=body, headers=headers, timeout=60).raise_for_status()


@contextmanager
def _sending(url: str) -> Iterator[None]:
    """Another process sends as many spans a second as `RATE`."""
    process = subprocess.Popen([sys.executable, "-m", __spec__.name, url], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


def send(url: str) -> None:
    """Send until killed; says when it has begun."""
    bodies = [gzip.compress(batch(BATCH)) for _ in range(_BODIES)]
    headers = {"Content-Type": "application/x-protobuf", "Content-Encoding": "gzip"}
    with requests.Session() as session:
        print("begun", flush=True)
        due = time.perf_counter()
        parent = os.getppid()
        while os.getppid() == parent:
            for body in bodies:
                session.post(f"{url}/v1/traces", data=body, headers=headers, timeout=60)
                # What could not be sent in time is not sent twice as fast later.
                due = max(due + BATCH / RATE, time.perf_counter() - 0.1)
                time.sleep(max(due - time.perf_counter(), 0))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        send(sys.argv[1])
    else:
        scrolling()
