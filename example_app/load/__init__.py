"""`python -m example_app --load`: customers who want their orders, whatever is killed meanwhile."""
