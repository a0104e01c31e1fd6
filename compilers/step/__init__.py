"""The step of a whole model as one native function."""
