"""Lowering: from the IR to something that runs."""
