from collections import Counter

import pytest

from example_app.orders.shards import (
    DATABASES,
    KEYS,
    TABLES,
    Router,
    Shard,
    shard_key,
    shard_of_key,
    tables_of,
)

# What the article prints, and its continuation to the eighth database.
ARTICLE = [
    (0x0000, 0x1FFF, "db-order-01", "t_order_00", "t_order_0F"),
    (0x2000, 0x3FFF, "db-order-02", "t_order_10", "t_order_1F"),
    (0x4000, 0x5FFF, "db-order-03", "t_order_20", "t_order_2F"),
    (0x6000, 0x7FFF, "db-order-04", "t_order_30", "t_order_3F"),
    (0x8000, 0x9FFF, "db-order-05", "t_order_40", "t_order_4F"),
    (0xA000, 0xBFFF, "db-order-06", "t_order_50", "t_order_5F"),
    (0xC000, 0xDFFF, "db-order-07", "t_order_60", "t_order_6F"),
    (0xE000, 0xFFFF, "db-order-08", "t_order_70", "t_order_7F"),
]


@pytest.mark.parametrize(("first", "last", "database", "first_table", "last_table"), ARTICLE)
def test_ranges_of_keys_are_in_the_articles_databases(
    first: int, last: int, database: str, first_table: str, last_table: str
) -> None:
    shards = [shard_of_key(key) for key in range(first, last + 1)]

    assert {shard.database for shard in shards} == {database}
    assert (shards[0].table, shards[-1].table) == (first_table, last_table)
    assert tuple(dict.fromkeys(shard.table for shard in shards)) == tables_of(database)


def test_every_table_has_as_many_keys_as_any_other() -> None:
    found = Counter(shard_of_key(key) for key in range(KEYS))

    assert len(DATABASES) == 8
    assert len(TABLES) == len(found) == 128
    assert set(found.values()) == {KEYS // 128}


def test_a_users_key_is_the_same_for_ever() -> None:
    # printf U987654 | sha256sum, its first four digits.
    assert shard_key("U987654") == 0x3A5F
    assert Router().shard_of("U987654") == Shard("db-order-02", "t_order_1D")
    assert shard_key("Zoë") == 0xC6A1


def test_a_million_users_spread_evenly() -> None:
    count = 1_000_000
    keys = [shard_key(f"U{number}") for number in range(count)]
    databases = Counter(key >> 13 for key in keys)
    tables = Counter(key >> 9 for key in keys)

    # Five standard deviations of what chance leaves.
    for found, shards in ((databases, 8), (tables, 128)):
        expected = count / shards
        assert len(found) == shards
        assert max(abs(number - expected) for number in found.values()) < 5 * expected**0.5


def test_a_user_who_was_moved_is_found_where_they_are() -> None:
    router = Router({"U1": 0xE000})

    assert router.shard_of("U1") == Shard("db-order-08", "t_order_70")
    assert router.shard_of("U2") == Router().shard_of("U2")
