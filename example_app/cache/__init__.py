"""Values that services share for a while: nonces seen, and what was answered last."""
