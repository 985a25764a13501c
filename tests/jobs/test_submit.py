"""What is refused, and why, before anything is queued."""

import json
from dataclasses import replace

import pytest

from engines.base import Sampling
from engines.errors import PromptError
from engines.tokenizer import NO_CONTEXT, FakeTokenizer
from jobs import reports
from jobs.errors import (
    BadPrompt,
    CompilerBusy,
    JobRefused,
    PromptTooLong,
    QueueFull,
    QuotaUsedUp,
    TryLater,
    UnknownModel,
    UserQueueFull,
)
from jobs.models import OfferedModel, OfferedModels
from jobs.reports import Report
from jobs.request import EmbedRequest, GenerateRequest, Image, RerankRequest, Terms
from jobs.submit import Limits, Submitter
from tests.conftest import MODELS

PROMPT = GenerateRequest("/x", "fake-llm", Sampling(5), prompt="one two three", param="prompt")
TEXTS = EmbedRequest("/x", "fake-embed", ("one two", "three"))
ANN = Terms("ann")


def task_of(job):
    return json.loads(job.task)


def test_a_prepared_job_is_not_in_redis_yet(submitter, redis):
    submitter.prepare(PROMPT, ANN)
    assert redis.keys() == []


def test_a_job_knows_its_tokens_its_times_and_who_asked(submitter):
    terms = Terms("ann", owner="key_1", lane="batch", metadata={"a": "b"})
    job = submitter.prepare(PROMPT, terms)
    assert (job.engine, job.model, job.prompt_tokens) == ("llm", "fake-llm", 3)
    assert (job.user, job.owner, job.lane, job.metadata) == ("ann", "key_1", "batch", {"a": "b"})
    assert job.queue_deadline_ms == job.created_ms + 600_000
    assert job.run_timeout_ms == 600_000


@pytest.mark.parametrize(("asked", "given"), [(None, 600_000), (1.5, 1_500), (9_999, 600_000), (0, 0)])
def test_a_caller_may_wait_less_than_the_server_allows_never_more(submitter, asked, given):
    job = submitter.prepare(PROMPT, Terms("ann", queue_timeout_s=asked, run_timeout_s=asked))
    assert (job.queue_deadline_ms - job.created_ms, job.run_timeout_ms) == (given, given)


def test_who_fetches_a_result_later_finds_it_longer(submitter):
    here, later = (submitter.prepare(PROMPT, Terms("ann", detached=detached)).ttl_s for detached in (False, True))
    assert here < later


@pytest.mark.parametrize("name", ["nobody", "", "fake-embed", "../fake-llm", "fake-llm:other", "x" * 5_000])
def test_an_unknown_model_is_refused_by_name(submitter, name):
    with pytest.raises(UnknownModel, match="not served here") as refusal:
        submitter.prepare(replace(PROMPT, model=name), ANN)
    assert refusal.value.param == "model"
    assert "fake-llm" in str(refusal.value)
    assert len(str(refusal.value)) < 300


def test_latest_is_the_same_model(submitter):
    assert submitter.prepare(replace(PROMPT, model="fake-llm:latest"), ANN).model == "fake-llm"


def test_a_prompt_that_leaves_no_room_for_an_answer_is_refused_with_limit_and_count(submitter):
    fits = submitter.prepare(replace(PROMPT, prompt="w " * 8191), ANN)
    assert task_of(fits)["sampling"]["max_tokens"] == 1
    for words in (8192, 50_000):
        says = f"has {words} tokens or more; the model takes at most 8191"
        with pytest.raises(PromptTooLong, match=says) as refusal:
            submitter.prepare(replace(PROMPT, prompt="w " * words), ANN)
        assert refusal.value.param == "prompt"


def test_an_empty_prompt_is_refused(submitter):
    with pytest.raises(BadPrompt, match="no tokens"):
        submitter.prepare(replace(PROMPT, prompt=""), ANN)


@pytest.mark.parametrize(("wanted", "given"), [(0, 1024), (7, 7), (99_999, 8192 - 3)])
def test_the_answer_is_as_long_as_wanted_within_the_models_context(submitter, wanted, given):
    job = submitter.prepare(replace(PROMPT, sampling=Sampling(wanted)), ANN)
    assert task_of(job)["sampling"]["max_tokens"] == given


def test_the_shortest_limit_of_the_workers_counts(submitter, redis):
    reports.write(redis, Report("npu", "llm", "m", "ready", context_tokens=20, max_prompt_tokens=10))
    reports.write(redis, Report("embed", "embed", "m", "ready", context_tokens=2, max_prompt_tokens=2))
    reports.write(redis, Report("still loading", "llm", "m", "loading"))
    job = submitter.prepare(replace(PROMPT, prompt="w " * 10, sampling=Sampling(50)), ANN)
    assert task_of(job)["sampling"]["max_tokens"] == 10
    with pytest.raises(PromptTooLong, match="11 tokens or more; .* at most 10"):
        submitter.prepare(replace(PROMPT, prompt="w " * 11), ANN)


def test_a_template_that_does_not_take_the_messages_is_the_callers_error(store):
    class Strict(FakeTokenizer):
        def render(self, messages, tools=(), context=NO_CONTEXT):
            raise PromptError("roles must alternate")

    models = OfferedModels([OfferedModel("m", "llm", Strict(), 100)])
    submitter = Submitter(store, models, Limits(), lambda: [])
    with pytest.raises(BadPrompt, match="alternate") as refusal:
        submitter.prepare(GenerateRequest("/x", "m", Sampling(5), messages=({"role": "user", "content": "x"},)), ANN)
    assert refusal.value.param == "messages"


def test_a_full_queue_takes_no_more_and_leaves_no_trace_of_what_it_refused(store, redis):
    submitter = Submitter(store, MODELS, Limits(max_queued=2), lambda: [])
    for _ in range(2):
        submitter.enqueue(submitter.prepare(PROMPT, ANN))
    before = sorted(redis.keys())
    with pytest.raises(QueueFull, match="2 jobs are waiting"):
        submitter.enqueue(submitter.prepare(PROMPT, ANN))
    assert sorted(redis.keys()) == before
    # The other engine's queue has room.
    submitter.enqueue(submitter.prepare(TEXTS, ANN))


def test_texts_are_counted_one_by_one(submitter):
    job = submitter.prepare(TEXTS, ANN)
    assert (job.engine, job.prompt_tokens) == ("embed", 3)
    assert (task_of(job)["texts"], task_of(job)["token_counts"]) == (["one two", "three"], [2, 1])


def test_a_text_that_is_too_long_is_refused_by_its_place_or_cut_when_asked(submitter):
    texts = ("short", "w " * 513)
    with pytest.raises(PromptTooLong, match="Text 1 has 513 tokens or more"):
        submitter.prepare(replace(TEXTS, texts=texts), ANN)
    job = submitter.prepare(replace(TEXTS, texts=texts, truncate=True), ANN)
    assert task_of(job)["token_counts"] == [1, 512]


def test_a_text_may_come_as_token_ids(submitter):
    assert task_of(submitter.prepare(replace(TEXTS, texts=((1, 2, 3),)), ANN))["texts"] == ["1 2 3"]


def test_more_dimensions_than_the_model_has_are_refused(submitter):
    submitter.prepare(replace(TEXTS, dimensions=8), ANN)
    with pytest.raises(BadPrompt, match="8 dimensions at most") as refusal:
        submitter.prepare(replace(TEXTS, dimensions=9), ANN)
    assert refusal.value.param == "dimensions"


def test_every_refusal_is_one_family():
    assert {UnknownModel, BadPrompt, PromptTooLong, CompilerBusy, TryLater} == set(JobRefused.__subclasses__())
    assert {QueueFull, UserQueueFull, QuotaUsedUp} == set(TryLater.__subclasses__())


# --- vision and reranking


SEES = OfferedModel("sees", "vision", FakeTokenizer(), 100, image_tokens=lambda width, height: width * height)
RANKS = OfferedModel("ranks", "rerank", FakeTokenizer(), 10)
PICTURE = Image("aW1hZ2U=", 6, 5)


@pytest.fixture
def more(store):
    """With a vision model of 100 tokens, of which an image takes its pixels, and a reranker of 10."""
    return Submitter(store, OfferedModels([*MODELS.all, SEES, RANKS]), Limits(), lambda: [])


def chat(*parts, model="sees", **changes):
    messages = ({"role": "system", "content": "be brief"}, {"role": "user", "content": parts})
    return GenerateRequest("/x", model, Sampling(5), messages=messages, **changes)


def test_images_are_counted_and_their_places_told(more):
    job = more.prepare(chat("one", PICTURE, "two", PICTURE, "three"), ANN)
    task = task_of(job)
    assert task["images"] == [PICTURE.data] * 2
    assert task["prompt"] == "system: be brief\nuser: one<ov_genai_image_0>two<ov_genai_image_1>three"
    assert (job.engine, job.prompt_tokens) == ("vision", 5 + 2 * 30)
    assert task["prompt_ids"] == []


def test_images_that_do_not_fit_are_too_long_a_prompt(more):
    with pytest.raises(PromptTooLong) as refused:
        more.prepare(chat("x", *[PICTURE] * 4), ANN)
    assert refused.value.param == "messages"


def test_a_tag_that_a_caller_wrote_is_no_image(more):
    calls = [{"function": {"name": "<image>"}}]
    request = chat("<ov_genai_image_0>", PICTURE)
    answer = {"role": "assistant", "content": "<image>", "tool_calls": calls}
    request = replace(request, messages=(answer, *request.messages))
    prompt = task_of(more.prepare(request, ANN))["prompt"]
    assert "assistant: < image>" in prompt
    assert prompt.endswith("user: < ov_genai_image_0><ov_genai_image_0>")
    raw = GenerateRequest("/x", "sees", Sampling(5), prompt="<ov_genai_image_0> x", param="prompt")
    assert task_of(more.prepare(raw, ANN))["prompt"] == "< ov_genai_image_0> x"


def test_a_model_for_text_takes_no_images(more):
    with pytest.raises(BadPrompt, match="Images are not served by this model"):
        more.prepare(chat(PICTURE, model="fake-llm"), ANN)


def test_a_query_is_counted_with_each_text(more):
    job = more.prepare(RerankRequest("/x", "ranks", "a b", ("c", "d e f", "")), ANN)
    task = task_of(job)
    assert (task["query_tokens"], task["token_counts"]) == (2, [1, 3, 0])
    assert (job.engine, job.prompt_tokens) == ("rerank", 3 * 2 + 4)


@pytest.mark.parametrize(
    ("query", "texts", "param"),
    [("a " * 11, ("b",), "query"), ("a b", ("c", "d " * 9), "documents[1]"), ("a " * 10, ("b",), "documents[0]")],
)
def test_a_query_and_a_text_must_fit_together(more, query, texts, param):
    with pytest.raises(PromptTooLong) as refused:
        more.prepare(RerankRequest("/x", "ranks", query, texts), ANN)
    assert refused.value.param == param
