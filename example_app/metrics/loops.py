"""Where a service's loops run, and what is left for the relay."""

from __future__ import annotations

from typing import TYPE_CHECKING

from opentelemetry import metrics
from opentelemetry.metrics import Observation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from opentelemetry.metrics import CallbackOptions

    from example_app.duty import Duty


def observe_duty(duty: Duty) -> None:
    """Say whether the loops run in this process: over the processes of a service, once."""

    def here(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(int(duty.is_here))

    metrics.get_meter("example_app.duty").create_observable_up_down_counter(
        "example.loops.here", [here], "{process}", "Processes in which a service's loops run."
    )


def observe_backlog(duty: Duty, unpublished: Callable[[], int]) -> None:
    """Say how many events are in the outboxes; asked in the process that publishes them."""

    def backlog(_: CallbackOptions) -> Iterator[Observation]:
        yield Observation(unpublished() if duty.is_here else 0)

    metrics.get_meter("example_app.duty").create_observable_up_down_counter(
        "example.outbox.unpublished", [backlog], "{event}", "Events stored and not yet published."
    )
