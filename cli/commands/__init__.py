"""The commands of `npu-proxy`, one subject a module, each with its list of `COMMANDS`."""
