"""The payment service: says who is good for an order, charges, and calls back, signed."""
