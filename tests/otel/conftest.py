"""The fixtures of `tests.tracing`, for the tests of this folder."""

from tests.tracing import (
    hex_ids,
    make_app,
    no_context_left_behind,
    propagators,
    provider,
    serve,
    spans,
)

__all__ = [
    "hex_ids",
    "make_app",
    "no_context_left_behind",
    "propagators",
    "provider",
    "serve",
    "spans",
]
