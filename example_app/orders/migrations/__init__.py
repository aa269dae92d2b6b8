"""How the databases of orders came to be as they are, step by step; run by Alembic."""
