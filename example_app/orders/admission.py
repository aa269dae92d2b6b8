"""Back pressure: new orders are taken only while those taken before are not too many to settle."""

from __future__ import annotations

import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from opentelemetry import metrics

from example_app.events.event import PLACED
from example_app.failures import TemporarilyUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from example_app.events.bus import Progress
    from example_app.orders.store import OrderStore

MOST_WAITING = 1000
AGAIN_AFTER_S = 1
"""Seconds after which whoever was refused may ask again."""

_log = logging.getLogger(__name__)


class TooManyWaiting(Exception):
    """An order cannot be taken now: too many events wait to be handled."""


def most_waiting(environ: Mapping[str, str]) -> int:
    """Read `EXAMPLE_MOST_WAITING`: so many events may wait while new orders are taken.

    :raises ValueError: it is no number.
    """
    text = environ.get("EXAMPLE_MOST_WAITING", "")
    if text and not text.isdecimal():
        raise ValueError(f"EXAMPLE_MOST_WAITING: {text[:60]!r} is no number")
    return int(text or MOST_WAITING)


def events_waiting(store: OrderStore, progress: Progress, groups: Iterable[str]) -> int:
    """Count the events of orders that wait: in the outboxes, and for the group furthest behind.

    Those in a bus that does not answer are not counted.
    """
    try:
        behind = max(progress.behind(groups, PLACED).values())
    except TemporarilyUnavailable as error:
        _log.info("how far groups are is not known: %s", error)
        behind = 0
    return behind + store.unpublished().value


class Admission:
    """Says whether one more order may be taken; for many threads at once.

    :param waiting: counts the events that wait to be handled; asked again and again, on a thread of
        its own, so that no order waits for it. Where it raises, orders are taken: nobody knows of a
        reason not to.
    :param most: as many may wait.
    :param every_s: seconds between two looks.
    """

    def __init__(
        self, waiting: Callable[[], int], most: int, every_s: float = AGAIN_AFTER_S
    ) -> None:
        self._waiting = waiting
        self._most = most
        self._every_s = every_s
        self._stop = threading.Event()
        self._is_full = False
        self._refused = metrics.get_meter("example_app.orders").create_counter(
            "example.orders.refused", unit="{order}", description="Orders for which it was too full"
        )

    def check(self) -> None:
        """Return if one more may be taken.

        :raises TooManyWaiting: not now.
        """
        if self._is_full:
            self._refused.add(1)
            raise TooManyWaiting

    def look(self) -> None:
        """Count once."""
        try:
            is_full = self._waiting() > self._most
        except Exception as error:  # noqa: BLE001 - whatever an engine raises, it cannot be told
            _log.info("how many events wait is not known: %s", error)
            is_full = False
        if is_full != self._is_full:
            what = f"over {self._most} events wait" if is_full else "events are handled again"
            _log.warning("orders are %s: %s", "refused" if is_full else "taken", what)
        self._is_full = is_full

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count again and again for as long as the block lasts."""

        def watch() -> None:
            while not self._stop.wait(self._every_s):
                self.look()

        thread = threading.Thread(target=watch, name="admission")
        thread.start()
        try:
            yield
        finally:
            self._stop.set()
            thread.join()
