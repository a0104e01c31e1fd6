"""SSIR: every sequence model is a graph of state-space systems."""

__version__ = "0.1.0"
