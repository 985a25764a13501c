"""Runs models on devices; knows nothing of HTTP, Redis, users or jobs."""
