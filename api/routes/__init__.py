"""Paths. Each module is a blueprint; what is done with a request is decided elsewhere."""
