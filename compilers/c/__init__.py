"""A model as a C program that needs no Python: the backend `c`."""
