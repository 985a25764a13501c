"""The `npu-proxy` command: settings, process supervision and the glue between the packages below."""
