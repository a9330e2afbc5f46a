"""Breakages of the library, each a patch, and what shows that the suite notices them."""
