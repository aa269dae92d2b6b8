"""Exporting spans by OTLP, for every span of the process.

`wire` and `encode` write the protobuf wire format, pure; `exporter` is OpenTelemetry's own
OTLP/HTTP exporter with that encoder in place of its own.

Belongs here: the bytes of OTLP. Does not belong here: connections, retries, TLS, compression and
the ``OTEL_EXPORTER_OTLP_*`` variables, which stay the official package's; requests and bodies.

May be imported by whoever exports spans; nothing of it is loaded before.
"""
