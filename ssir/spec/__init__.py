"""The front half of the language: YAML text to a checked Spec."""
