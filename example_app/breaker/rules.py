"""The breaker's rules, read from YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

DEFAULT = Path(__file__).with_name("circuit_breaker.yaml")
_Positive = Annotated[int, msgspec.Meta(ge=1)]


class BreakerRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What `circuit_breaker.yaml` says and explains."""

    failure_threshold: _Positive
    timeout_ms: _Positive
    fallback_strategy: Literal["cache_last_known_value", "none"]

    @property
    def timeout_s(self) -> float:
        """`timeout_ms` in seconds."""
        return self.timeout_ms / 1000


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    circuit_breaker: BreakerRules


def read(path: Path = DEFAULT) -> BreakerRules:
    """Read the rules from a file.

    :raises ValueError: it is not as it has to be; says where.
    """
    try:
        return msgspec.yaml.decode(path.read_bytes(), type=_Document).circuit_breaker
    except msgspec.DecodeError as error:
        raise ValueError(f"{path}: {error}") from None
