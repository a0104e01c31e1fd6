"""One YAML file an architecture."""
