"""Measures npu-proxy against the same model in process: `python -m bench`. See docs/benchmarks.md."""
