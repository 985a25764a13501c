"""The `npu-proxy` command, but its workers get tokens wrong for prompts that say so (`FAULTS`).

It stands for any error between the engine and a client. The words of the fake engine are numbered, one an event.
"""

import dataclasses
import sys
from typing import Any

import cli.serve
from cli.child import ChildSpec
from cli.main import main
from jobs import attempt, events
from jobs.attempt import Attempt
from jobs.store import SIGN_OF_LIFE, Tokens

#: Token event → the text it should not have, by fault. Event n is the word n + 1.
FAULTS = {
    "fault:lose": {5: ""},
    "fault:double": {5: " 6 6"},
    "fault:swap": {5: " 7", 6: " 6"},
}

_child, _unpublished = cli.serve.child, Attempt.unpublished


def child(*arguments: Any, **options: Any) -> ChildSpec:
    spec = _child(*arguments, **options)
    python, _, _, _, *rest = spec.command
    return dataclasses.replace(spec, command=(python, "-m", "tests.e2e.programs.faulty", *rest))


def unpublished(self: Attempt) -> Tokens:
    tokens = _unpublished(self)
    if tokens is SIGN_OF_LIFE:
        return tokens
    for word, texts in FAULTS.items():
        if word in self.job.task and tokens.before in texts:
            return dataclasses.replace(tokens, data=events.token_data(texts[tokens.before], [tokens.before + 1]))
    return tokens


if __name__ == "__main__":
    cli.serve.child = child
    attempt.Attempt.unpublished = unpublished  # type: ignore[method-assign]
    sys.argv[0] = "npu-proxy"
    main()
