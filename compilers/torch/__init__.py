"""The backend `torch`: from the IR to the source of PyTorch modules."""
