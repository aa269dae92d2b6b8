"""Where the other services are."""
