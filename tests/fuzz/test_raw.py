"""Some hundreds of raw requests, by seed, to stock Flask and to this package on five servers.

``make fuzz`` sends ten thousand.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.body.servers import missing
from tests.fuzz.differences import SERVERS, compare
from tests.fuzz.raw import raw_request

COUNT = 48
# Found by longer runs: each differed once without a reason.
KEPT = (107, 130, 135, 234, 299, 453, 1328, 1396, 1716)


@pytest.mark.parametrize("name", SERVERS)
def test_every_difference_from_stock_has_a_reason(name: str, tmp_path: Path) -> None:
    reason = missing(name)
    if reason is not None:
        pytest.skip(reason)
    seeds = [*range(COUNT), *KEPT]
    found = list(compare(name, seeds, tmp_path))
    assert len(found) == len(seeds)
    assert not [str(each) for each in found if each.reason is None]


def test_a_seed_always_names_the_same_request() -> None:
    assert raw_request(7) == raw_request(7)
    assert raw_request(7) != raw_request(8)
