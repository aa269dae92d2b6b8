"""What tracing costs, side by side: ``make bench`` measures and writes RESULTS.md."""
