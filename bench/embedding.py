"""Embeddings: many texts at once, and a single small one."""

from __future__ import annotations

from bench import workload
from bench.figures import Row, Target
from bench.measurement import Bench, Measurement
from bench.reference import Reference
from bench.sides import Side, in_turn
from bench.stats import median
from bench.ttft import latency_rows
from engines.base import Kind

#: What the way through HTTP, queue and worker may add to the median of a small one. ms.
TARGET = Target(at_most=8.0)


class Embedding(Measurement):
    """One request with many texts of mixed lengths, whose rate is compared with two ways to call the pipeline
    (in the very batches that the engine makes, and as a plain program does, 32 texts a call in their order);
    and requests with one short text, one after the other.
    """

    subject = "embeddings"
    kind: Kind = "embed"

    def warm_up(self, bench: Bench, reference: Reference) -> None:
        texts = workload.mixed_texts(bench.plan.texts)
        for side in (reference, bench.server):
            side.embed([next(bench.small_texts)])
            side.embed(texts)
        reference.embed_in_order(texts)

    def run(self, bench: Bench, reference: Reference) -> list[Row]:
        plan = bench.plan
        texts = workload.mixed_texts(plan.texts)
        small: tuple[list[list[float]], list[list[float]]] = ([], [])
        many: tuple[list[float], list[float]] = ([], [])
        in_order: list[float] = []
        for number in plan.rounds(plan.embedding_s):
            turns = in_turn(number, (reference, (small[0], many[0])), (bench.server, (small[1], many[1])))
            for side, (latencies, rates) in turns:
                latencies.append(self._small(side, bench))
                rates.append(len(texts) / side.embed(texts))
            in_order.append(len(texts) / reference.embed_in_order(texts))
            bench.progress.note(f"{median(many[0]):.0f}/s in process, {median(many[1]):.0f}/s server")
        name = f"embeddings/s, {plan.texts} texts"
        rate = median(many[1])
        return [
            Row(f"{name}, same batches", "/s", median(many[0]), rate, "ratio", None, many[0], many[1]),
            Row(f"{name}, 32 a call", "/s", median(in_order), rate, "ratio", None, in_order, many[1]),
            *latency_rows("one embedding", *small, TARGET),
        ]

    def _small(self, side: Side, bench: Bench) -> list[float]:
        return [1000 * side.embed([next(bench.small_texts)]) for _ in range(bench.plan.small_run)]
