"""Tokens per second: of one stream, and of several at once."""

from __future__ import annotations

from itertools import islice

from bench.figures import Row, Target
from bench.measurement import Bench, Measurement
from bench.reference import Reference
from bench.sides import Generation, check_same, in_turn
from bench.stats import median
from engines.base import Kind

#: The server's part of what the model does in process.
ONE_STREAM = Target(at_least=0.95)
#: Tokens of 8 clients at once over those of one, through the server.
SCALING = Target(at_least=4.0)


class Throughput(Measurement):
    """Whole streams of a fixed number of tokens, from the request to its end: prefill is part of it."""

    subject = "tokens per second"
    kind: Kind = "llm"

    def warm_up(self, bench: Bench, reference: Reference) -> None:
        for side in (reference, bench.server):
            side.generate(list(islice(bench.prompts, bench.plan.streams)), 16)

    def run(self, bench: Bench, reference: Reference) -> list[Row]:
        plan = bench.plan
        one = _Speeds()
        many = _Speeds()
        for number in plan.rounds(plan.throughput_s):
            one.measure(number, bench, reference, 1)
            many.measure(number, bench, reference, plan.streams)
            bench.progress.note(f"one stream {one}, {plan.streams} at once {many}")
        scaling = [m / o for m, o in zip(many.in_process, one.in_process, strict=True)]
        scaling_server = [m / o for m, o in zip(many.server, one.server, strict=True)]
        return [
            one.row("tokens/s, one stream", ONE_STREAM),
            many.row(f"tokens/s, {plan.streams} at once", None),
            Row(
                f"{plan.streams} at once ÷ one",
                "×",
                median(scaling),
                median(scaling_server),
                "value",
                SCALING,
                scaling,
                scaling_server,
            ),
        ]


class _Speeds:
    """Tokens per second of both sides, a figure a round."""

    def __init__(self) -> None:
        self.in_process: list[float] = []
        self.server: list[float] = []

    def __str__(self) -> str:
        return f"{median(self.in_process):.0f}/s in process, {median(self.server):.0f}/s server"

    def measure(self, number: int, bench: Bench, reference: Reference, streams: int) -> None:
        """One round. Both sides get the same prompts, one after the other, so they make the same text."""
        prompts = list(islice(bench.prompts, streams))
        done: list[Generation] = []
        for side, speeds in in_turn(number, (reference, self.in_process), (bench.server, self.server)):
            done.append(side.generate(prompts, bench.plan.stream_tokens))
            speeds.append(done[-1].tokens_per_s)
        check_same(*done)

    def row(self, name: str, target: Target | None) -> Row:
        medians = median(self.in_process), median(self.server)
        return Row(name, "/s", *medians, "ratio", target, self.in_process, self.server)
