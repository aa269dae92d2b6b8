"""`python -m example_app --demo`: real requests against real servers, and what they must leave."""
