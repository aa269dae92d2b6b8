"""What a trace says of a request: its ids and headers, its span's attributes, its metrics.

`current` is what ``g.trace`` is; `incoming`, `traceparent` and `xtrace` read what a caller sent;
`headers` and `header_writer` are the trace headers of answers; `attributes` and `header_capture`
are what goes on the span; `metrics` are the server's; `carry` takes a trace into threads.

Belongs here: names and values by OpenTelemetry's semantic conventions and the W3C's formats. Does
not belong here: when a span starts and ends (``flow/``), OpenTelemetry's private names (``otel/``),
Flask.

May be imported by ``calls/``, ``flow/``, ``flask/`` and the modules at the top.
"""
