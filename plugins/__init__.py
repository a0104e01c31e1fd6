"""The families of operators; each folder is a plugin like a third party's."""
