"""Giving the canary to more and more, as long as what is measured of it is good; else to nobody."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from example_app.deploy.canary.files import write_routes
from example_app.deploy.canary.measured import NotMeasured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from example_app.deploy.canary.measured import Counts

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """When the canary goes on, and when it goes back.

    :ivar shares: steps, in per cent of the requests without a label; in the first one only users of
        its label get it.
    :ivar step_s: seconds that a step lasts at least.
    :ivar least: number of requests to the canary that a step must have seen.
    :ivar most_failed: the share of them that may fail.
    :ivar patience_s: seconds in which a step must have seen so many; and for which nothing may be
        measured.
    :ivar every_s: seconds between two looks.
    """

    shares: tuple[int, ...] = (0, 5, 25, 50, 100)
    step_s: float = 60.0
    least: int = 50
    most_failed: float = 0.02
    patience_s: float = 600.0
    every_s: float = 1.0


class Measure(Protocol):
    """Knows how the canary does."""

    def counts(self) -> Counts:
        """Return its counts so far; `NotMeasured` if nobody knows."""


class RolledBack(Exception):
    """The canary was taken out; the message says why."""


def promote(
    folder: Path, measure: Measure, rules: Rules, say: Callable[[str], object] = print
) -> None:
    """Take the canary through all steps.

    :param folder: that of Envoy's routes.
    :raises RolledBack: it is not good, or nobody can tell. Whatever else ends this before the last
        step is done (Ctrl-C) takes the canary out too.
    """
    promoted = False
    try:
        for share in rules.shares:
            write_routes(folder, share)
            say(f"{share:3} % and users of its label: {_step(measure, rules)}")
        promoted = True
    finally:
        if not promoted:
            write_routes(folder, None)


def _step(measure: Measure, rules: Rules) -> str:
    began = seen = time.monotonic()
    before = None
    while True:
        time.sleep(rules.every_s)
        now = time.monotonic()
        try:
            counts = measure.counts()
        except NotMeasured as error:
            if now - seen > rules.patience_s:
                raise RolledBack(f"not measured for {now - seen:.0f} s: {error}") from error
            _log.warning("not measured: %s", error)
            continue
        seen = now
        if before is None:
            before = counts
        told = counts.since(before)
        shown = f"{told.failed:.0f} of {told.asked:.0f} requests failed"
        # Already when so few may fail among the least that a step must see: not only at its end.
        if told.failed > rules.most_failed * max(told.asked, rules.least):
            raise RolledBack(shown)
        if told.asked >= rules.least and now - began >= rules.step_s:
            return shown
        if now - began > rules.patience_s:
            raise RolledBack(f"{shown}, and {rules.least} are needed to tell")
