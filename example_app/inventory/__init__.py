"""The inventory service: stocks over HTTP, reservations over gRPC, and out of events."""
