"""What all signals of OTLP share: values, ids and times, in protobuf and in JSON.

JSON follows the OTLP specification, "JSON Protobuf Encoding": ids are hex, enumerations numbers,
64-bit integers numbers or strings.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable
from typing import Any

import msgspec
from msgspec import Struct

from .model import Attributes, Value

_MAX_DEPTH = 32
_MAX_NANOS = (1 << 64) - 1
_UNKNOWN_SERVICE = "unknown_service"


class BadRequest(ValueError):
    """The bytes are no valid OTLP request; the message says why, for the sender's log."""


class ProtobufMissing(Exception):
    """opentelemetry-proto is not installed."""

    def __init__(self) -> None:
        super().__init__(
            "protobuf needs opentelemetry-proto: pip install 'flask-bodytrace[viewer]'"
        )


# The JSON mapping. Field names are the protobuf's, so that one reader serves both.


class Camel(Struct, rename="camel", frozen=True):
    """A message: the fields are the protobuf's, the JSON's names their camel case."""


class AnyValue(Camel, frozen=True):
    """A value of an attribute or a log record: one of the fields is set."""

    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: ArrayValue | None = None
    kvlist_value: KeyValueList | None = None
    bytes_value: str | None = None


class KeyValue(Camel, frozen=True):
    """An attribute."""

    key: str = ""
    value: AnyValue | None = None


class ArrayValue(Camel, frozen=True):
    """A list of values."""

    values: list[AnyValue] | None = None


class KeyValueList(Camel, frozen=True):
    """A map."""

    values: list[KeyValue] | None = None


class Resource(Camel, frozen=True):
    """What sent it, by its attributes."""

    attributes: list[KeyValue] | None = None


class Scope(Camel, frozen=True):
    """The library that made it."""

    name: str = ""
    version: str = ""


def decode(read: Callable[[], Any]) -> Any:
    """The decoded message.

    :raises BadRequest: the bytes are none.
    """
    try:
        return read()
    except (ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise BadRequest(f"malformed request: {error}") from None
    except Exception as error:
        # protobuf's DecodeError derives from Exception alone, and may not be installed.
        if type(error).__name__ != "DecodeError":
            raise
        raise BadRequest(f"malformed request: {error}") from None


ReadId = Callable[[Any, int], str]
ReadValue = Callable[[Any, int], Value]


def read_resource(resource: Any, read: ReadValue) -> tuple[Attributes, str]:
    """Its attributes, and the name of the service."""
    attributes = read_attributes(resource.attributes, read) if resource is not None else {}
    return attributes, str(attributes.get("service.name") or _UNKNOWN_SERVICE)


def read_scope(scope: Any) -> str:
    """Name and version."""
    if scope is None:
        return ""
    return f"{scope.name} {scope.version}".strip()


def read_attributes(pairs: Iterable[Any] | None, read: ReadValue) -> dict[str, Value]:
    """Attributes by their names; of two of one name the last counts."""
    return {pair.key: read(pair.value, 0) for pair in pairs or ()}


def read_nanos(value: int | str) -> int:
    """A time, ns since 1970.

    :raises BadRequest: it is none of 64 bits.
    """
    if isinstance(value, str):
        value = integer(value)
    if not 0 <= value <= _MAX_NANOS:
        raise BadRequest("a time outside of 64 bits")
    return value


def integer(text: str) -> int:
    """A number that JSON has as text.

    :raises BadRequest: it is none.
    """
    try:
        return int(text)
    except ValueError:
        raise BadRequest(f"no integer: {text[:40]!r}") from None


def json_id(text: str | None, size: int) -> str:
    """An id as lower-case hex; empty for none, and for one of zeros.

    :param size: in bytes.
    :raises BadRequest: it is of another size, or no hex.
    """
    if not text:
        return ""
    lowered = text.lower()
    try:
        raw = bytes.fromhex(lowered)
    except ValueError:
        raw = b""
    if len(raw) != size or len(lowered) != 2 * size:
        raise BadRequest(f"an id that is not {2 * size} hex digits: {text[:40]!r}")
    return lowered if any(raw) else ""


def protobuf_id(raw: bytes, size: int) -> str:
    """An id as lower-case hex; empty for none, and for one of zeros.

    :param size: in bytes.
    :raises BadRequest: it is of another size.
    """
    if not raw:
        return ""
    if len(raw) != size:
        raise BadRequest(f"an id of {len(raw)} bytes instead of {size}")
    return raw.hex() if any(raw) else ""


def protobuf_value(value: Any, depth: int) -> Value:
    """A value as `Value`; what nests deeper than 32 is cut."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    if depth > _MAX_DEPTH:
        return "…"
    if kind == "array_value":
        return [protobuf_value(item, depth + 1) for item in value.array_value.values]
    if kind == "kvlist_value":
        pairs = value.kvlist_value.values
        return {pair.key: protobuf_value(pair.value, depth + 1) for pair in pairs}
    read: Value = getattr(value, kind)
    return read


def json_value(  # noqa: C901, PLR0911 - one branch per kind of value
    value: AnyValue | None, depth: int
) -> Value:
    """A value as `Value`; what nests deeper than 32 is cut.

    :raises BadRequest: it is none of its kind.
    """
    if value is None:
        return None
    if value.string_value is not None:
        return value.string_value
    if value.bool_value is not None:
        return value.bool_value
    if value.int_value is not None:
        number = value.int_value
        return integer(number) if isinstance(number, str) else number
    if value.double_value is not None:
        return double(value.double_value)
    if value.bytes_value is not None:
        try:
            return base64.b64decode(value.bytes_value, validate=True)
        except ValueError:
            raise BadRequest("bytesValue is not base64") from None
    if depth > _MAX_DEPTH:
        return "…"
    if value.array_value is not None:
        return [json_value(item, depth + 1) for item in value.array_value.values or ()]
    if value.kvlist_value is not None:
        pairs = value.kvlist_value.values or ()
        return {pair.key: json_value(pair.value, depth + 1) for pair in pairs}
    return None


def double(value: float | str) -> float:
    """A number; JSON has infinite ones, and what is none, as text.

    :raises BadRequest: it is none.
    """
    try:
        return float(value)
    except ValueError:
        raise BadRequest(f"no number: {str(value)[:40]!r}") from None
