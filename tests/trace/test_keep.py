"""The rules of ``BODYTRACE_KEEP`` alone."""

from __future__ import annotations

import pytest

from flask_bodytrace.trace.keep import KeepRules

SECOND = 10**9


@pytest.mark.parametrize(
    ("rules", "outcome", "seconds", "ids", "reason"),
    [
        (["errors"], 404, 0, {}, "error"),
        (["errors"], 399, 0, {}, None),
        (["server-errors"], 404, 0, {}, None),
        (["server-errors"], 500, 0, {}, "error"),
        (["server-errors", "errors"], 404, 0, {}, "error"),
        (["slow:500ms"], 200, 0.5, {}, "slow"),
        (["slow:500ms"], 200, 0.499, {}, None),
        (["slow:0.5s"], 200, 0.5, {}, "slow"),
        (["slow:2s", "slow:1s"], 200, 1, {}, "slow"),
        (["id:order.id=ORD1"], 200, 0, {"order.id": "ORD1"}, "id"),
        (["id:order.id=ORD1"], 200, 0, {"order.id": "ORD2"}, None),
        (["id:order.id=ORD1", "id:order.id=ORD2"], 200, 0, {"order.id": "ORD2"}, "id"),
        (["id:order.id=a=b"], 200, 0, {"order.id": "a=b"}, "id"),
        (["id:order.id"], 200, 0, {"order.id": "any"}, "id"),
        (["id:order.id", "id:order.id=ORD1"], 200, 0, {"order.id": "any"}, "id"),
        (["id:order.id=ORD1", "id:order.id"], 200, 0, {"order.id": "any"}, "id"),
        (["id:order.id"], 200, 0, {"user.id": "any"}, None),
        ([], 500, 3600, {"order.id": "ORD1"}, None),
    ],
)
def test_a_request_is_kept_for_a_reason(
    rules: list[str], outcome: int, seconds: float, ids: dict[str, str], reason: str | None
) -> None:
    parsed = KeepRules.parse(rules, {})
    assert parsed.reason(outcome, round(seconds * SECOND), ids) == reason


def test_an_id_that_is_stored_as_a_hash_is_named_by_its_value() -> None:
    rules = KeepRules.parse(["id:user.id=me"], {"user.id": str.upper})
    assert rules.reason(200, 0, {"user.id": "ME"}) == "id"
    assert rules.reason(200, 0, {"user.id": "me"}) is None


@pytest.mark.parametrize(
    "rule", ["error", "slow", "slow:", "slow:5", "slow:fast", "slow:-1s", "id:", "id:=x", "500"]
)
def test_what_is_no_rule_is_named(rule: str) -> None:
    with pytest.raises(ValueError, match=f"^{rule}$"):
        KeepRules.parse(["errors", rule], {})
