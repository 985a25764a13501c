"""Driving an engine as its process does."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from engines.base import Engine, Task, Update


@dataclass
class Got:
    """What one task brought."""

    text: str = ""
    tokens: tuple[int, ...] = ()
    vectors: dict[int, str] = field(default_factory=dict)
    #: An `End`, once there is one.
    end: Any = None
    updates: list[Update] = field(default_factory=list)


def run(
    engine: Engine,
    tasks: Iterable[Task],
    between: Callable[[dict[str, Got]], None] = lambda got: None,
    most_steps: int = 20_000,
) -> dict[str, Got]:
    """Submit the tasks and step until the engine is idle; `between` is called after each step."""
    got: dict[str, Got] = {}
    for task in tasks:
        got[task.id] = Got()
        engine.submit(task)
    for _ in range(most_steps):
        if not engine.busy:
            return got
        for update in engine.step():
            task_got = got.setdefault(update.id, Got())
            assert task_got.end is None, "an update after the end"
            task_got.text += update.text
            task_got.tokens += update.tokens
            assert not set(task_got.vectors) & {index for index, _ in update.vectors}, "a vector came twice"
            task_got.vectors.update(update.vectors)
            task_got.end = update.end
            task_got.updates.append(update)
        between(got)
    raise AssertionError(f"still busy after {most_steps} steps")
