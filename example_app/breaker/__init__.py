"""Circuit breaker and fallback around calls of other services, as `circuit_breaker.yaml` says."""
