"""Real clients against a real `npu-proxy serve`."""
