"""Why a request does not become a job.

    JobRefused
    ├── UnknownModel      no engine of the right kind serves that name
    ├── BadPrompt         the model's template or vocabulary does not take it
    ├── PromptTooLong     with the limit and the count
    ├── CompilerBusy      too many grammars are being compiled
    └── TryLater          with what is left of the user's quotas
        ├── QueueFull         all places in the queue are taken
        ├── UserQueueFull     those of one user are
        └── QuotaUsedUp       the user's requests or tokens of this minute are
"""

from __future__ import annotations

from scheduler.limits import Admission, UserLimits


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


class CompilerBusy(JobRefused): ...


class PromptTooLong(JobRefused):
    def __init__(self, count: int, limit: int, param: str, what: str = "The prompt") -> None:
        super().__init__(f"{what} has {count} tokens or more; the model takes at most {limit}.")
        self.param = param


class TryLater(JobRefused):
    """Nothing is wrong with the request. `retry_after_s` is when there is room for it, 0 if nobody knows."""

    def __init__(self, message: str, admission: Admission) -> None:
        self.admission = admission
        self.retry_after_s = admission.retry_after_s
        super().__init__(message)


class QueueFull(TryLater): ...


class UserQueueFull(TryLater): ...


class QuotaUsedUp(TryLater): ...


def refusal(admission: Admission, limits: UserLimits, most_waiting: int, tokens: int) -> TryLater:
    """The error that says which limit was met. `tokens` is what the job may need, prompt and answer."""
    match admission.verdict:
        case "user_queue_full":
            text = f"{limits.max_queued} of your jobs are waiting, which is your limit."
            return UserQueueFull(text + " Try again when one has begun.", admission)
        case "requests":
            text = f"Your limit is {limits.requests_per_minute} requests a minute."
            return QuotaUsedUp(f"{text} Try again in {admission.retry_after_s} s.", admission)
        case "tokens":
            text = f"Your limit is {limits.tokens_per_minute} tokens a minute, and this request may need {tokens}"
            text += f" (its prompt and its longest answer); {max(0, admission.tokens_left or 0)} are left."
            if tokens > limits.tokens_per_minute:
                return QuotaUsedUp(text + " Ask for a shorter answer, or send less.", admission)
            return QuotaUsedUp(f"{text} Try again in {admission.retry_after_s} s.", admission)
        case _:
            return QueueFull(f"{most_waiting} jobs are waiting, which is the limit. Try again later.", admission)
