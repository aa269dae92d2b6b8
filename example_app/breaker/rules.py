"""The breakers' rules, read from YAML: one for each neighbour."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

DEFAULT = Path(__file__).with_name("circuit_breaker.yaml")
NEIGHBOURS = ("inventory", "orders", "payments")
"""The services that others call."""

_Positive = Annotated[int, msgspec.Meta(ge=1)]


class BreakerRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `circuit_breaker.yaml` says of one neighbour, and explains."""

    failure_threshold: _Positive
    timeout_ms: _Positive
    fallback_strategy: Literal["cache_last_known_value", "none"]
    open_ms: _Positive | None = None

    @property
    def timeout_s(self) -> float:
        """How long a call may take, in seconds."""
        return self.timeout_ms / 1000

    @property
    def open_s(self) -> float:
        """How long an open breaker waits before it lets one call try, in seconds."""
        return (self.open_ms or self.timeout_ms) / 1000


def read(path: Path = DEFAULT) -> Mapping[str, BreakerRules]:
    """Read the rules from a file.

    :returns: those of each neighbour.
    :raises ValueError: it is not as it has to be; says where.
    """
    try:
        return _parsed(path.read_bytes())
    except (ValueError, msgspec.MsgspecError) as error:
        raise ValueError(f"{path}: {error}") from None


def _parsed(text: bytes) -> Mapping[str, BreakerRules]:
    document = msgspec.yaml.decode(text, type=dict[str, dict[str, Any]])
    if set(document) != {"circuit_breaker"}:
        raise ValueError(f"expected `circuit_breaker` alone, got {sorted(document)}")
    common = document["circuit_breaker"]
    special = msgspec.convert(common.pop("neighbours", None) or {}, dict[str, dict[str, Any]])
    if unknown := sorted(set(special) - set(NEIGHBOURS)):
        raise ValueError(f"neighbours: {unknown[0]!r} is none of {', '.join(NEIGHBOURS)}")
    # Alone first, so that what is wrong with it is not said of a neighbour.
    msgspec.convert(common, BreakerRules)
    return {name: _merged(name, common, special.get(name, {})) for name in NEIGHBOURS}


def _merged(name: str, common: dict[str, Any], special: dict[str, Any]) -> BreakerRules:
    try:
        return msgspec.convert({**common, **special}, BreakerRules)
    except msgspec.ValidationError as error:
        raise ValueError(f"neighbours: {name}: {error}") from None
