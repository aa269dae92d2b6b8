"""A new version of the order service behind an Envoy, beside the one in use."""
