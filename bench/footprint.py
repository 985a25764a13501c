"""What the server takes for itself: memory after all that work, and CPU while nothing is asked of it."""

from __future__ import annotations

import time

import psutil

from bench.figures import Row, Target
from bench.server import Server

#: Resident memory of a process that serves HTTP. MB.
API_MEMORY = Target(at_most=400.0)
MB = 1_000_000


def memory(server: Server) -> list[Row]:
    """Resident memory by part of the server; the API is its largest process, so the one that serves."""
    sizes_mb = {
        part: [process.memory_info().rss / MB for process in processes]
        for part, processes in server.parts().items()
    }
    api_mb = max(sizes_mb.pop("api"))
    others = [Row(f"memory, {part}", "MB", None, sum(sizes), "value") for part, sizes in sizes_mb.items()]
    return [Row("memory, API process", "MB", None, api_mb, "value", API_MEMORY), *others]


def idle_cpu(server: Server, for_s: float) -> list[Row]:
    """CPU time of all of the server's processes while there is no job, in percent of a core. Blocks."""
    processes = [process for part in server.parts().values() for process in part]
    before_s, begun_s = _cpu_s(processes), time.monotonic()
    time.sleep(for_s)
    percent = 100 * (_cpu_s(processes) - before_s) / (time.monotonic() - begun_s)
    return [Row("CPU while idle, of one core", "%", None, percent, "value")]


def _cpu_s(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(t.user + t.system for t in times)
