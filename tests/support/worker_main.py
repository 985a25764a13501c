"""A worker process as `cli` starts one: `python -m tests.support.worker_main URL SPEC RULES ORDERS`.

It can be told where to die. RULES are those of `tests.support.workers.Rules`; at SIGUSR1 it arms the fault point that
stands in the file ORDERS, which is gone when that is done.
"""

import json
import logging
import signal
import sys
from pathlib import Path

from engines import wire
from jobs import fault_points, host, recovery, store
from jobs.config import WorkerConfig
from jobs.worker import run_worker


def arm(order: str) -> None:
    """Die at a point after so many passes: `published 3`."""
    point, passes = order.split()
    fault_points.arm(point, int(passes))


def obey(orders: Path) -> None:
    arm(orders.read_text())
    orders.unlink()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(created).3f %(levelname)s %(message)s")
    url, spec, rules, orders = sys.argv[1], *map(json.loads, sys.argv[2:4]), Path(sys.argv[4])
    signal.signal(signal.SIGUSR1, lambda signum, frame: obey(orders))
    waits = {
        "LEASE_MS": rules["lease_ms"],
        "POPPED_LIMIT_S": rules["popped_limit_ms"] / 1000,
        "REPORT_S": rules["report_ms"] / 1000,
    }
    for module in (store, recovery, host):
        vars(module).update(waits)
    if rules["armed"]:
        arm(rules["armed"])
    sys.exit(run_worker(WorkerConfig(url, wire.spec_from(spec), engine_grace_s=rules["engine_grace_s"])))
