"""Circuit breakers around calls of other services, and fallbacks, as `circuit_breaker.yaml` says.

One neighbour has one `breaker` in each process; `neighbours` are services that are called through
theirs; a `guard` answers with what a neighbour said last.
"""
