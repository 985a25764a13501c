"""Time to first token of a short prompt."""

from __future__ import annotations

from bench.figures import Row, Target
from bench.measurement import Bench, Measurement
from bench.reference import Reference
from bench.sides import Side, check_same, in_turn
from bench.stats import median, percentile
from engines.base import Kind

#: What the way through HTTP, queue and worker may add to the median. ms.
TARGET = Target(at_most=8.0)


class TimeToFirstToken(Measurement):
    """From sending the request (in process: from having the messages) until the first text is there.

    One request at a time, greedy, never the same prompt twice. The opening chunk of a stream, which holds no
    text, does not count.
    """

    subject = "time to first token"
    kind: Kind = "llm"

    def warm_up(self, bench: Bench, reference: Reference) -> None:
        for side in (reference, bench.server):
            side.generate([next(bench.prompts)], bench.plan.ttft_tokens)
        check_same(*(side.generate(["The same prompt for both."], 16) for side in (reference, bench.server)))

    def run(self, bench: Bench, reference: Reference) -> list[Row]:
        plan = bench.plan
        in_process: list[list[float]] = []
        server: list[list[float]] = []
        for number in plan.rounds(plan.ttft_s):
            for side, rounds in in_turn(number, (reference, in_process), (bench.server, server)):
                rounds.append(self._run_of(side, bench))
            latest = median(in_process[-1]), median(server[-1])
            bench.progress.note("{:.1f} ms in process, {:.1f} ms server".format(*latest))
        return latency_rows("first token", in_process, server, TARGET)

    def _run_of(self, side: Side, bench: Bench) -> list[float]:
        tokens = bench.plan.ttft_tokens
        return [
            1000 * side.generate([next(bench.prompts)], tokens).first_s for _ in range(bench.plan.ttft_run)
        ]


def latency_rows(
    name: str, in_process: list[list[float]], server: list[list[float]], target: Target
) -> list[Row]:
    """Median and 99th percentile of latencies in ms, taken round by round; the target is the median's."""
    all_in_process, all_server = sum(in_process, []), sum(server, [])
    rounds = [median(samples) for samples in in_process], [median(samples) for samples in server]
    medians = median(all_in_process), median(all_server)
    worst = percentile(all_in_process, 99), percentile(all_server, 99)
    return [
        Row(f"{name}, median", "ms", *medians, "difference", target, *rounds),
        Row(f"{name}, p99", "ms", *worst, "difference"),
    ]
