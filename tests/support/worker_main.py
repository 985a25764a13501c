"""A worker process as `cli` starts one: `python -m tests.support.worker_main URL SPEC`."""

import json
import logging
import sys

from engines import wire
from jobs.config import WorkerConfig
from jobs.worker import run_worker

if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    spec = wire.spec_from(json.loads(sys.argv[2]))
    sys.exit(run_worker(WorkerConfig(sys.argv[1], spec)))
