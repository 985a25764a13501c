"""Engines that die amid their work: their jobs go on in the next one, and those who read them notice a pause."""

import signal
import time
from pathlib import Path

from engines.base import EngineSpec, Sampling
from engines.tokenizer import ModelTokenizer
from jobs import events
from jobs.models import OfferedModel, OfferedModels
from jobs.request import GenerateRequest, Terms
from jobs.submit import Limits, Submitter
from tests.conftest import StartWorker
from tests.engines.test_llm import FOLDER, GREEDY, PROMPTS
from tests.faults.conftest import Figure, Times, spread
from tests.support.answers import assert_whole, follow, numbered
from tests.support.readers import Reader
from tests.support.workers import Worker

#: What readers wait for beside the start of the new engine. Seconds.
PAUSE_S = 1.0
TINY = EngineSpec("llm", "tiny", FOLDER, context_tokens=2048, slots=4, max_step_tokens=64, reproducible=True)


def recovery_s(running: Worker, readers: list[Reader], killed: float) -> float:
    """How long the last of them waited for a further token: no longer than the new engine's start and a second."""
    outage_s = max(reader.outage_s(killed) for reader in readers)
    start_s = running.engine_starts_s()[-1]
    assert outage_s <= start_s + PAUSE_S, f"{outage_s:.2f} s, of which the engine's start took {start_s:.2f} s"
    return outage_s


def starts(running: Worker) -> str:
    return f"the engine's start {spread(running.engine_starts_s())}"


def test_jobs_come_whole_through_every_death_of_their_engine(
    worker: StartWorker, submit, store, hub, times: Times, figure: Figure
):
    running = worker(slots=4, fake_token_ms=5)
    tokens = times(60, 100)
    deaths = [signal.SIGKILL] * times(5, 200) + [signal.SIGSEGV] * times(1, 50) + [signal.SIGTERM] * times(1, 20)
    recoveries: dict[signal.Signals, list[float]] = {how: [] for how in deaths}
    jobs = []
    for n, how in enumerate(deaths):
        # Fresh ones: a job that was running at two crashes fails.
        readers = [Reader(hub, submit("Hello", tokens, detached=True)) for _ in range(3)]
        for reader in readers:
            reader.until_tokens(1 + n % 20)
        killed = time.time()
        running.crash_engine(how)
        for reader in readers:
            assert_whole(reader.log(), tokens)
            done = store.get(reader.job.id)
            assert (done.state, done.attempt, done.crashes) == ("completed", 1, 1)
            assert done.outcome.text == numbered(tokens)
            assert done.outcome.usage.completion_tokens == tokens
        jobs += [reader.job for reader in readers]
        recoveries[how].append(recovery_s(running, readers, killed))
    for job in jobs:
        assert_whole(events.read(store.redis, job.id), tokens)
    assert store.redis.zcard("npu:leases:llm") == 0
    for how, times_s in recoveries.items():
        figure(f"engine {how.name}", f"{3 * len(times_s)} jobs whole; next token {spread(times_s)}")
    figure("engine", starts(running))


def test_a_job_whose_engine_exits_each_time_fails_and_the_others_come_whole(worker: StartWorker, submit, store, hub):
    """An error in a step, which Python prints and exits with 1: nothing that the kernel would tell of."""
    running = worker(slots=4, fake_token_ms=5)
    others = [Reader(hub, submit("Hello", 100)) for _ in range(2)]
    for reader in others:
        reader.until_tokens(2)
    bad = submit("fake:break", 9)
    assert_whole(follow(hub, bad), 2, "failed")
    assert store.get(bad.id).error.code == "engine_crashed"
    for reader in others:
        assert_whole(reader.log(), 100)
        assert store.get(reader.job.id).crashes == 0
    assert "the engine process ended with exit code 1" in running.log


def test_greedy_text_of_a_real_model_is_that_of_an_undisturbed_run(
    worker: StartWorker, store, hub, times: Times, figure: Figure
):
    """With sums in f32 throughout: a prefill's and a single step's are then the same to the last token."""
    models = OfferedModels([OfferedModel("tiny", "llm", ModelTokenizer(Path(FOLDER)), TINY.context_tokens)])
    submitter = Submitter(store, models, Limits(), lambda: [])
    running = worker(TINY)

    def ask(prompt: str) -> Reader:
        sampling = Sampling(150, temperature=GREEDY.temperature, ignore_eos=GREEDY.ignore_eos)
        job = submitter.prepare(GenerateRequest("/test", "tiny", sampling, prompt=prompt), Terms("ann", detached=True))
        submitter.enqueue(job)
        return Reader(hub, job)

    def told(reader: Reader) -> tuple[str, list[int]]:
        log = reader.log()
        assert [event.name for event in log].count("done") == 1
        assert log[-1].json() == {"status": "completed"}
        pieces = [event.json() for event in log if event.name == "token"]
        text = "".join(piece["text"] for piece in pieces)
        assert store.get(reader.job.id).outcome.text == text
        return text, [token for piece in pieces for token in piece["tokens"]]

    prompts = PROMPTS[:3]
    undisturbed = [told(ask(prompt)) for prompt in prompts]
    assert [len(tokens) for _, tokens in undisturbed] == [150] * 3
    recoveries = []
    for n in range(times(2, 50)):
        readers = [ask(prompt) for prompt in prompts]
        for reader in readers:
            reader.until_tokens(1 + 7 * n % 60)
        killed = time.time()
        running.crash_engine()
        assert [told(reader) for reader in readers] == undisturbed
        assert [store.get(reader.job.id).crashes for reader in readers] == [1] * 3
        recoveries.append(recovery_s(running, readers, killed))
    text = f"{3 * len(recoveries)} texts as undisturbed; next token {spread(recoveries)}; {starts(running)}"
    figure("GenAI engine SIGKILL", text)
