"""The public gateway: trusts no caller's trace, lets no request through twice, passes labels on."""
