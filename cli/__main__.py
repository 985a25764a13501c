"""`python -m cli`, which is how `serve` starts its processes: it needs no script on the path."""

from .main import main

main(prog_name="npu-proxy")
