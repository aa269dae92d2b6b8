"""Services that are reached through a proxy, and those that are not."""

from __future__ import annotations

from contextlib import closing

import pytest

from example_app.discovery.directory import UnknownService
from example_app.engines import Engines

OTHERS = {"orders": "http://10.0.0.1:8001", "payments": "http://10.0.0.2:8003"}
PROXY = "http://127.0.0.1:8081"


def test_a_service_with_a_proxy_is_there_and_all_others_where_they_are() -> None:
    engines = Engines.from_environment({"EXAMPLE_PROXIES": f" orders={PROXY}/ ,"})
    with closing(engines.find_services(OTHERS)) as directory:
        assert directory.locate("orders") == PROXY
        assert directory.locate("payments") == OTHERS["payments"]
        with pytest.raises(UnknownService):
            directory.locate("inventory")


def test_nobody_goes_around_a_proxy_that_does_not_answer() -> None:
    directory = Engines(proxies=f"orders={PROXY}").find_services(OTHERS)
    with closing(directory), pytest.raises(UnknownService, match="no other orders"):
        directory.locate("orders", avoid=[PROXY])


@pytest.mark.parametrize("wrong", ["orders", "orders=", "=http://a:1", "orders=127.0.0.1:8081"])
def test_a_proxy_without_a_url_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"EXAMPLE_PROXIES: .* has no URL"):
        Engines.from_environment({"EXAMPLE_PROXIES": wrong})


def test_services_that_are_started_know_of_the_proxies() -> None:
    engines = Engines(proxies=f"orders={PROXY}")
    assert Engines.from_environment(engines.environment()) == engines
