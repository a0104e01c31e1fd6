"""Memories of outer products at run time, in chunks of matrix products: torch alone."""
