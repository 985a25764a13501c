"""Answers of a given form, on their way to the queue and through crashes."""

from dataclasses import replace

import pytest

from api.errors import problem_of
from engines.base import Grammar, Sampling
from engines.errors import GrammarError, GrammarsBusy
from engines.tokenizer import FakeTokenizer
from jobs import reports
from jobs.errors import BadPrompt, CompilerBusy
from jobs.models import OfferedModel, OfferedModels
from jobs.reports import Report
from jobs.request import GenerateRequest, Terms
from jobs.submit import Limits, Submitter
from tests.jobs.test_recovery import in_the_middle
from tests.support.answers import assert_whole, follow
from tests.support.waiting import until
from tests.support.workers import Rules

FORM = Grammar("regex", "[ 0-9]+")
REQUEST = GenerateRequest("/x", "fake-llm", Sampling(120), prompt="Hello", grammar=FORM, grammar_param="format")
ANN = Terms("ann")


class Grumpy:
    def check(self, grammar):
        raise GrammarError("It is bad.")


def test_a_grammar_that_does_not_compile_is_refused_with_its_field(store):
    model = OfferedModel("fake-llm", "llm", FakeTokenizer(), 8192, grammars=Grumpy())
    submitter = Submitter(store, OfferedModels([model]), Limits(), lambda: ())
    with pytest.raises(BadPrompt, match="It is bad") as refused:
        submitter.prepare(REQUEST, ANN)
    assert refused.value.param == "format"
    submitter.prepare(replace(REQUEST, grammar=None), ANN)


def test_who_cannot_be_served_a_form_now_is_told_to_come_again(store):
    class Busy:
        def check(self, grammar):
            raise GrammarsBusy("Too many.")

    model = OfferedModel("fake-llm", "llm", FakeTokenizer(), 8192, grammars=Busy())
    with pytest.raises(CompilerBusy) as refused:
        Submitter(store, OfferedModels([model]), Limits(), lambda: ()).prepare(REQUEST, ANN)
    assert problem_of(refused.value).status == 503


def test_where_only_npus_run_a_form_is_refused_before_the_queue(submitter, redis):
    npu = Report("one", "llm", "fake-llm", "ready", device="NPU", context_tokens=900, max_prompt_tokens=600)
    reports.write(redis, npu)
    with pytest.raises(BadPrompt, match="NPU") as refused:
        submitter.prepare(REQUEST, ANN)
    assert refused.value.param == "format"
    submitter.prepare(replace(REQUEST, grammar=None), ANN)
    reports.write(redis, replace(npu, name="two", device="CPU"))
    submitter.prepare(REQUEST, ANN)


@pytest.fixture
def submit_form(submitter):
    def send(**changes):
        job = submitter.prepare(replace(REQUEST, **changes), ANN)
        submitter.enqueue(job)
        return job

    return send


def test_amid_a_form_a_crash_ends_the_job_with_its_text(worker, submit_form, submit, store, hub):
    running = worker(slots=2, fake_token_ms=5)
    form, plain = submit_form(), submit("Hello", max_tokens=120)
    in_the_middle(store, form)
    in_the_middle(store, plain)

    running.crash_engine()

    log = follow(hub, form)
    done = store.get(form.id)
    assert_whole(log, done.outcome.usage.completion_tokens, "failed")
    assert (done.error.code, done.crashes) == ("cannot_continue", 1)
    assert done.outcome.text != ""
    assert_whole(follow(hub, plain), 120)


def test_before_its_first_token_a_form_starts_again(worker, submit_form, store, hub):
    running = worker(fake_token_ms=700)
    job = submit_form(sampling=Sampling(2))
    until(lambda: store.get(job.id).state == "in_progress", what="a job that runs")
    assert store.get(job.id).tokens == 0
    running.crash_engine()
    assert_whole(follow(hub, job), 2)


def test_a_form_that_another_worker_began_is_not_continued(worker, submit_form, store, hub):
    first = worker(fake_token_ms=5)
    job = submit_form(sampling=Sampling(2000))
    in_the_middle(store, job)
    first.terminate()
    worker(fake_token_ms=5)
    log = follow(hub, job)
    done = store.get(job.id)
    assert_whole(log, done.outcome.usage.completion_tokens, "failed")
    assert done.error.code == "cannot_continue"


def test_a_form_is_not_continued_either_when_its_engine_hung_for_another_and_was_killed(
    worker, submit_form, submit, store, hub
):
    worker(rules=Rules(engine_grace_s=1.0, report_ms=200), slots=2, fake_token_ms=5)
    form = submit_form(sampling=Sampling(2000))
    in_the_middle(store, form)
    submit("fake:hang", 9, run_timeout_s=0.3)
    follow(hub, form)
    done = store.get(form.id)
    assert (done.error.code, done.crashes) == ("cannot_continue", 0)
