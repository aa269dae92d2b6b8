import msgspec
import pytest
from werkzeug.datastructures import MultiDict

from example_app.orders.order import InvalidOrder, Item, Order, from_form, from_json

ORDER = Order(order_id="A1", user_id="U1", items=(Item("BOLT", 2), Item("NUT", 3)))


def test_json_and_form_give_the_same_order() -> None:
    payload = {
        "orderId": "A1",
        "userId": "U1",
        "items": [{"sku": "BOLT", "quantity": 2}, {"sku": "NUT", "quantity": 3}],
    }
    form = MultiDict(
        [
            ("orderId", "A1"),
            ("userId", "U1"),
            ("sku", "BOLT"),
            ("quantity", "2"),
            ("sku", "NUT"),
            ("quantity", "3"),
        ]
    )

    assert from_json(payload) == ORDER
    assert from_form(form) == ORDER
    assert ORDER.pieces == 5


def test_an_order_survives_json() -> None:
    assert from_json(msgspec.to_builtins(ORDER)) == ORDER


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"orderId": ""}, "orderId"),
        ({"orderId": "a b"}, "orderId"),
        ({"orderId": 7}, "orderId"),
        ({"userId": "U" * 65}, "userId"),
        ({"items": []}, "items"),
        ({"items": [{"sku": "BOLT", "quantity": 0}]}, "quantity"),
        ({"items": [{"sku": "BOLT", "quantity": "2"}]}, "quantity"),
    ],
)
def test_a_bad_field_is_named(change: dict[str, object], named: str) -> None:
    good = {"orderId": "A1", "userId": "U1", "items": [{"sku": "BOLT", "quantity": 2}]}

    with pytest.raises(InvalidOrder, match=named):
        from_json({**good, **change})


@pytest.mark.parametrize("payload", [None, [], "order", 7, {}])
def test_json_that_is_no_order_is_refused(payload: object) -> None:
    with pytest.raises(InvalidOrder):
        from_json(payload)


def test_a_form_with_a_quantity_missing_is_refused() -> None:
    form = MultiDict([("orderId", "A1"), ("userId", "U1"), ("sku", "A"), ("sku", "B")])

    with pytest.raises(InvalidOrder, match="2 sku but 0 quantity"):
        from_form(form)
