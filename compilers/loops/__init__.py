"""Loops over time: regions of a graph that are computed step by step, their derivatives, and their text for a machine."""
