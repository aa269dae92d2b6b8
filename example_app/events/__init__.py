"""Events between services: outbox, relay, bus, consumer. Trace and ids travel in the headers."""
