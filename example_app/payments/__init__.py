"""The payment side: callbacks of a payment provider, signed over their raw bytes."""
