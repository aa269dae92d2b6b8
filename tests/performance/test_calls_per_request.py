"""What a request costs, counted in calls of Python functions: no clock, so nothing to flake.

A bound that is passed means work was added to every request. Find it with
``python -m benchmarks.calls ours``, take it off the requests that do not need it, or, if all do,
raise the bound and say so in docs/performance.md.
"""

from __future__ import annotations

import pytest

from benchmarks.calls import per_request


@pytest.mark.parametrize(
    ("subject", "flags", "bound"),
    [("ours", "01", 130), ("ours", "00", 29), ("ours_full", "01", 205), ("ours_full", "00", 95)],
)
def test_a_request_makes_no_more_calls_than_it_did(subject: str, flags: str, bound: int) -> None:
    over = per_request(subject, flags=flags).total() - per_request("bare").total()
    assert over <= bound


@pytest.mark.parametrize(("flags", "ratio"), [("01", 0.30), ("00", 0.10)])
def test_a_request_makes_a_fraction_of_opentelemetrys_calls(flags: str, ratio: float) -> None:
    bare = per_request("bare").total()
    ours = per_request("ours", flags=flags).total() - bare
    assert ours <= ratio * (per_request("otel_flask", flags=flags).total() - bare)


def test_a_sampled_request_makes_no_more_calls_than_a_hand_written_span() -> None:
    assert per_request("ours").total() <= per_request("span").total()


def test_the_count_is_the_same_every_time_and_sees_one_call_more() -> None:
    assert per_request("ours", flags="00") == per_request("ours", flags="00")
    assert per_request("ours", flags="00").total() < per_request("ours").total()
