"""The tests; a package, so that `tests.cli` is never taken for `cli`."""
