"""One request, from its environ to the last byte of its answer.

Read `run` first: begin, dispatch, respond, finish. Each is a module of that name; `exchange` is
what a request is, `plan` what the settings were made into.

Belongs here: when things happen. Does not belong here: how a body is kept (``body/``), what a span
says (``trace/``), how OpenTelemetry works inside (``otel/``), anything of Flask (``flask/``). Knows
WSGI (PEP 3333).

May be imported by ``flask/`` and the modules at the top.
"""
