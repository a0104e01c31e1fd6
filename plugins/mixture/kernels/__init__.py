"""Experts at run time: torch alone."""
