"""What can be said of the manifests without a cluster: their schemas, and what they refer to."""
