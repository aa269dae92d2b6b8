"""The order service: takes orders as JSON or form, keeps them, shows them."""
