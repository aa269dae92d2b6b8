"""The id generator for traces whose id was chosen: by a business id, or by X-Trace-ID."""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

preset_trace_id: ContextVar[int] = ContextVar("flask_bodytrace.preset_trace_id", default=0)
"""The id the next root span gets from `BusinessIdGenerator`; 0 is a random one."""


class BusinessIdGenerator(RandomIdGenerator):
    """Random ids, except for traces whose id was chosen: by a business id, or by X-Trace-ID.

    ``OTEL_PYTHON_ID_GENERATOR=bodytrace`` selects it. The W3C random flag is not claimed for
    chosen ids.
    """

    def generate_trace_id(self) -> int:
        """A 128-bit trace id."""
        return preset_trace_id.get() or super().generate_trace_id()

    def is_trace_id_random(self) -> bool:
        """Whether the id just generated has 56 random bits (W3C Trace Context Level 2)."""
        return not preset_trace_id.get()
