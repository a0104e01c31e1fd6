"""Filters at run time: torch, and C where there is a compiler."""
