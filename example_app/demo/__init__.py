"""`python -m example_app --demo`: real orders to real processes, and what they must lead to."""
