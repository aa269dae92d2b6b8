"""OpenTelemetry behind one door.

Belongs here: everything that touches private names of OpenTelemetry's (names with an underscore,
the fields of its spans, contexts and samplers), each guarded, and the set-up of its SDK. What is
missing or has another shape switches the fast path off, never the import and never the spans.

Does not belong here: what a span says (``trace/``) and when it starts and ends (``flow/``).

May be imported by ``trace``, ``calls``, ``flow`` and everything above them.
"""
