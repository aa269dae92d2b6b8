"""How the order system is brought to where it runs; nothing here serves orders."""
