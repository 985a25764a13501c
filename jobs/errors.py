"""Why a request does not become a job.

    JobRefused
    ├── UnknownModel      no engine of the right kind serves that name
    ├── BadPrompt         the model's template or vocabulary does not take it
    ├── PromptTooLong     with the limit and the count
    └── QueueFull         try again later
"""

from __future__ import annotations


class JobRefused(Exception):
    """The root. `param` names the field of the request that is at fault, if one is."""

    param: str | None = None


class UnknownModel(JobRefused):
    param = "model"

    def __init__(self, name: str, served: list[str]) -> None:
        self.name = name
        known = ", ".join(served) or "none"
        super().__init__(f"The model '{name}' is not served here for this kind of request. Served: {known}.")


class BadPrompt(JobRefused):
    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class PromptTooLong(JobRefused):
    def __init__(self, count: int, limit: int, param: str, what: str = "The prompt") -> None:
        super().__init__(f"{what} has {count} tokens or more; the model takes at most {limit}.")
        self.param = param


class QueueFull(JobRefused):
    def __init__(self, depth: int) -> None:
        super().__init__(f"{depth} jobs are waiting, which is the limit. Try again later.")
