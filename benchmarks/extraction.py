"""Taking two ids out of JSON bodies of 200 B to 1 MB: us against parsers of whole documents."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

from .subjects import IDS, document

SIZES = (200, 1_000, 10_000, 100_000, 1_000_000)
OURS = "flask_bodytrace"
FLOOR = "msgspec, the two fields"


def readers() -> dict[str, Callable[[bytes], Any]]:
    """By name, functions from a document's bytes to what holds its two ids."""
    import msgspec
    import orjson
    import simdjson

    from flask_bodytrace.ids.extractor import compile_rules
    from flask_bodytrace.ids.rules import parse_rules

    class Order(msgspec.Struct):
        orderId: str
        userId: str

    two_fields = msgspec.json.Decoder(Order).decode
    everything = msgspec.json.Decoder().decode
    parse = simdjson.Parser().parse
    extract = compile_rules(parse_rules(IDS)).from_json

    def both(load: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        def read(data: bytes) -> Any:
            order = load(data)
            return order["orderId"], order["userId"]

        return read

    return {
        "json.loads": both(json.loads),
        "orjson": both(orjson.loads),
        "msgspec, whole": both(everything),
        "pysimdjson": both(parse),
        FLOOR: two_fields,
        OURS: extract,
    }


def measure(*, rounds: int, seconds: float) -> dict[int, dict[str, float]]:
    """Microseconds by size and reader: the minimum of interleaved rounds.

    :param seconds: CPU seconds of one reader in one round, about.
    """
    made = readers()
    results: dict[int, dict[str, float]] = {}
    for size in SIZES:
        data = document(size)
        slowest = _time(made["json.loads"], data, 3)
        count = max(5, min(20_000, int(seconds / slowest * 1e6)))
        best = dict.fromkeys(made, float("inf"))
        for _ in range(rounds):
            for name, read in made.items():
                best[name] = min(best[name], _time(read, data, count))
        results[size] = best
    return results


def _time(read: Callable[[bytes], Any], data: bytes, count: int) -> float:
    start = time.process_time_ns()
    for _ in range(count):
        read(data)
    return (time.process_time_ns() - start) / count / 1000
