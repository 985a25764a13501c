"""Looking after jobs from the API too: where no worker of a kind lives, its jobs must still expire in time."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable

from redis.exceptions import RedisError

from jobs.recovery import Reaper
from jobs.store import JobStore

log = logging.getLogger("npu_proxy.api")

#: Between two passes; a worker's come every second. Seconds.
REAP_S = 2.0


def start_reaping(store: JobStore, engines: Iterable[str]) -> None:
    """Look after the jobs of these kinds in a thread, for as long as the process lives. Each API process may do so, and
    each worker does: the scripts let one of them move a job, once."""
    reapers = [Reaper(store, engine) for engine in engines]
    threading.Thread(target=_reap, args=(reapers,), name="reaper", daemon=True).start()


def _reap(reapers: list[Reaper]) -> None:
    while True:
        time.sleep(REAP_S)
        try:
            for reaper in reapers:
                reaper.run()
        except RedisError as error:
            log.warning("cannot look for late jobs: %s", error)
        except Exception:
            log.exception("an error while looking for late jobs")
