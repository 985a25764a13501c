"""Tests of the `npu-proxy` command: settings, processes, and the files around them."""
