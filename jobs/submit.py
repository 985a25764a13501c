"""From a request to a queued job: find the model, make and count the prompt, check the limits, enqueue.

Everything that can be refused is refused here, before anything is queued or streamed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from engines import wire
from engines.base import EmbedTask, GenerateTask, Grammar, RerankTask, Task
from engines.devices import family
from engines.errors import GrammarError, GrammarsBusy, PromptError
from jobs import keys
from jobs.chat import prompt_of
from jobs.errors import BadPrompt, CompilerBusy, PromptTooLong, refusal
from jobs.models import OfferedModel, OfferedModels
from jobs.reading import to_answer
from jobs.record import Job, new_id
from jobs.reports import Report
from jobs.request import EmbedRequest, GenerateRequest, Request, RerankRequest, Terms
from jobs.store import NO_LIMITS, JobStore, now_ms
from jobs.vision import has_images, vision_prompt
from scheduler.limits import Admission, UserLimits


@dataclass(frozen=True)
class Limits:
    """What the server allows. Times in seconds."""

    queue_timeout_s: float = 600.0
    run_timeout_s: float = 600.0
    max_queued: int = 10_000
    default_max_tokens: int = 1024
    #: How long a job can be read after its end: one handed in to be fetched later, and one that answered its caller.
    result_ttl_s: int = 86_400
    reply_ttl_s: int = 600


class Submitter:
    """Makes jobs. Thread-safe. Blocks for the counting (ms) and one or two round trips to Redis."""

    def __init__(
        self, store: JobStore, models: OfferedModels, limits: Limits, reports: Callable[[], Sequence[Report]]
    ) -> None:
        """`reports` gives the workers' last words, for the limits of the devices they run on."""
        self._store = store
        self._models = models
        self._limits = limits
        self._reports = reports

    def prepare(self, request: Request, terms: Terms) -> Job:
        """The job of a request, not queued yet, so that its events can be subscribed to first.

        Raises `JobRefused` with the field at fault.
        """
        limits, now = self._limits, now_ms()
        queue_timeout_s = _least(terms.queue_timeout_s, terms.timeout_s)
        job_id = new_id("job")
        model = self._models.get(request.model, *request.kinds)
        try:
            task, prompt_tokens, reading = self._task(job_id, request, model)
            longest_answer = task.sampling.max_tokens if isinstance(task, GenerateTask) else 0
        except PromptError as error:
            raise BadPrompt(str(error), request.param) from error
        return Job(
            id=job_id,
            engine=model.kind,
            endpoint=request.endpoint,
            model=model.name,
            user=terms.user,
            user_key=keys.user_key(terms.user),
            weight=terms.weight,
            reserved_tokens=prompt_tokens + longest_answer if terms.limits.tokens_per_minute else 0,
            owner=terms.owner,
            task=json.dumps(wire.task_to(task)),
            lane=terms.lane,
            prompt_tokens=prompt_tokens,
            created_ms=now,
            queue_deadline_ms=now + _milliseconds(queue_timeout_s, limits.queue_timeout_s),
            deadline_ms=0 if terms.timeout_s is None else now + int(1000 * terms.timeout_s),
            ttl_s=limits.result_ttl_s if terms.detached else limits.reply_ttl_s,
            run_timeout_ms=_milliseconds(terms.run_timeout_s, limits.run_timeout_s),
            metadata=dict(terms.metadata),
            answer={**request.answer, **reading},
        )

    def enqueue(self, job: Job, user: UserLimits = NO_LIMITS) -> Admission:
        """Accept a prepared job, within its user's limits; what is left of them. Raises `TryLater`."""
        admission = self._store.create(job, self._limits.max_queued, user)
        if not admission.accepted:
            raise refusal(admission, user, self._limits.max_queued, job.reserved_tokens)
        return admission

    def _task(self, job_id: str, request: Request, model: OfferedModel) -> tuple[Task, int, dict[str, Any]]:
        """The engine's task, the prompt's tokens, and what the answer is to be read by."""
        if isinstance(request, GenerateRequest):
            return self._generate_task(job_id, request, model)
        if isinstance(request, RerankRequest):
            return (*rerank_task(job_id, request, model), {})
        return (*embed_task(job_id, request, model), {})

    def _generate_task(
        self, job_id: str, request: GenerateRequest, model: OfferedModel
    ) -> tuple[GenerateTask, int, dict[str, Any]]:
        context, longest_prompt = self._token_limits(model)
        images: tuple[str, ...] = ()
        ids = None
        if model.kind == "vision" or has_images(request):
            prompt, images, count = vision_prompt(request, model, longest_prompt)
        else:
            prompt = prompt_of(request, model)
            ids = model.tokenizer.encode(prompt.text, prompt.special)
            [count] = [len(ids)] if ids else model.tokenizer.count([prompt.text], longest_prompt, prompt.special)
        if count == 0:
            raise BadPrompt("The prompt has no tokens.", request.param)
        if count > min(longest_prompt, context - 1):
            raise PromptTooLong(count, min(longest_prompt, context - 1), request.param)
        if prompt.grammar is not None:
            self._check_grammar(prompt.grammar, prompt.param, model)
        wanted = request.sampling.max_tokens or self._limits.default_max_tokens
        sampling = replace(request.sampling, max_tokens=min(wanted, context - count))
        task = GenerateTask(
            job_id,
            prompt.text,
            sampling,
            add_special_tokens=prompt.special,
            grammar=prompt.grammar,
            images=images,
            kept_tokens=prompt.kept_tokens,
        )
        if ids is not None:
            task = replace(task, prompt="", prompt_ids=ids, add_special_tokens=False)
        return task, count, to_answer(prompt.reading)

    def _check_grammar(self, grammar: Grammar, param: str, model: OfferedModel) -> None:
        devices = {family(r.device) for r in self._reports() if r.engine == model.kind and r.device}
        if devices == {"NPU"}:
            raise BadPrompt("The NPU, where this model runs, cannot be made to answer in a given form.", param)
        try:
            model.grammars.check(grammar)
        except GrammarsBusy as error:
            raise CompilerBusy(str(error)) from error
        except GrammarError as error:
            raise BadPrompt(str(error), param) from error

    def _token_limits(self, model: OfferedModel) -> tuple[int, int]:
        """Tokens in all, and of prompt, that every worker for this model can take."""
        loaded = [r for r in self._reports() if r.engine == model.kind and r.context_tokens]
        return (
            min([model.context_tokens, *(r.context_tokens for r in loaded)]),
            min([model.context_tokens, *(r.max_prompt_tokens for r in loaded)]),
        )


def embed_task(job_id: str, request: EmbedRequest, model: OfferedModel) -> tuple[EmbedTask, int]:
    """The engine's task for an embeddings request, and its tokens in all. Raises `JobRefused`, `PromptError`."""
    if model.dimensions and request.dimensions > model.dimensions:
        raise BadPrompt(f"{model.name} makes vectors of {model.dimensions} dimensions at most.", "dimensions")
    texts = tuple(t if isinstance(t, str) else model.tokenizer.decode(t) for t in request.texts)
    limit = model.context_tokens
    counts = model.tokenizer.count(texts, limit, special=True)
    too_long = next((index for index, count in enumerate(counts) if count > limit), None)
    if too_long is not None and not request.truncate:
        raise PromptTooLong(counts[too_long], limit, request.param, what=f"Text {too_long}")
    kept = tuple(min(count, limit) for count in counts)
    return EmbedTask(job_id, texts, kept), sum(kept)


def rerank_task(job_id: str, request: RerankRequest, model: OfferedModel) -> tuple[RerankTask, int]:
    """The engine's task for a rerank request, and its tokens in all. Raises `PromptTooLong`.

    Query and text go through the model as one, with special tokens around and between them: as many as two texts have,
    or one fewer.
    """
    limit, count = model.context_tokens, model.tokenizer.count
    [query] = count([request.query], limit)
    beside = query + 2 * count([""], limit, special=True)[0]
    if beside > limit:
        raise PromptTooLong(beside, limit, "query", what="The query")
    counts = count(request.texts, limit - beside)
    too_long = next((index for index, tokens in enumerate(counts) if beside + tokens > limit), None)
    if too_long is not None:
        what = f"Document {too_long} with the query"
        raise PromptTooLong(beside + counts[too_long], limit, f"{request.param}[{too_long}]", what=what)
    task = RerankTask(job_id, request.query, query, request.texts, tuple(counts))
    return task, len(counts) * beside + sum(counts)


def _least(*times_s: float | None) -> float | None:
    return min((time_s for time_s in times_s if time_s is not None), default=None)


def _milliseconds(asked_s: float | None, limit_s: float) -> int:
    """A caller may ask for less time than the server allows, never for more."""
    return int(1000 * (limit_s if asked_s is None else min(asked_s, limit_s)))
