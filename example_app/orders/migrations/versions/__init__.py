"""One step a file; the next is named 0002_ and what it does."""
