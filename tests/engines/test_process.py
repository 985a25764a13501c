"""The engine process, started and heard as a worker does."""

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from engines import wire
from engines.base import EmbedTask, EngineFacts, EngineSpec, GenerateTask, Sampling, Update
from engines.client import EngineProcess
from engines.errors import LoadError
from engines.loading import load_engine
from tests.support.waiting import until
from tests.support.workers import ROOT, end, gone

FAKE = EngineSpec("llm", "fake", "", backend="fake", fake_token_ms=1.0)
FAKE_EMBED = replace(FAKE, kind="embed")
TINY = str(Path(__file__).parents[1] / "fixtures" / "models" / "tiny-llama")


@pytest.fixture
def start() -> Iterator:
    started: list[EngineProcess] = []

    def run(spec: EngineSpec) -> EngineProcess:
        started.append(EngineProcess(spec))
        return started[-1]

    yield run
    for engine in started:
        engine.end()
        assert gone(engine.pid)


def hear(engine: EngineProcess, kind: str):
    """The next message of that kind."""
    while True:
        assert engine.connection.poll(20), f"no {kind}"
        heard, body = engine.receive()
        if heard == kind:
            return body


def updates(engine: EngineProcess) -> list[Update]:
    return wire.updates_from(hear(engine, "step"))


def ready(engine: EngineProcess) -> EngineFacts:
    return wire.facts_from(hear(engine, "ready"))


def ask(task_id="a", prompt="Hello", count=5):
    return GenerateTask(task_id, prompt, Sampling(count))


def test_it_loads_says_so_and_streams(start):
    engine = start(FAKE)
    facts = ready(engine)
    assert (facts.device, facts.slots, facts.model) == ("CPU", 8, "fake")
    engine.submit(ask())
    heard: list[Update] = []
    while not heard or heard[-1].end is None:
        heard += updates(engine)
    assert "".join(update.text for update in heard) == " 1 2 3 4 5"


def test_a_cancelled_task_is_not_heard_of_again(start):
    engine = start(FAKE)
    ready(engine)
    engine.submit(ask("gone", count=10**6))
    assert updates(engine)[0].id == "gone"
    engine.cancel("gone")
    engine.submit(ask("next", count=50))
    heard: list[Update] = []
    while not any(update.end for update in heard):
        heard += updates(engine)
    ids = [update.id for update in heard]
    assert ids.index("next") == len(ids) - ids[::-1].index("gone") if "gone" in ids else True
    assert ids[-1] == "next"


def test_a_model_that_loads_nowhere_is_a_message_with_every_reason(start):
    engine = start(replace(FAKE, device="NPU", device_hints=("NPU",)))
    failure = hear(engine, "failed")
    assert failure["code"] == "load_failed"
    assert failure["message"] == (
        "fake loads on no device: no NPU on this machine; no GPU on this machine; "
        "the model's format does not run on CPU (only on NPU)."
    )
    with pytest.raises(EOFError):
        engine.receive()
    assert engine.end(5) == "exit code 0"


def test_files_that_are_no_model_fail_the_load_without_their_path(start, tmp_path):
    (tmp_path / "openvino_model.xml").write_text("<net/>")
    engine = start(EngineSpec("llm", "broken", str(tmp_path)))
    failure = hear(engine, "failed")
    assert failure["message"] == "broken loads on no device: CPU failed: model not supported."


def test_a_killed_engine_is_seen_at_once_and_its_end_is_told(start):
    engine = start(FAKE)
    ready(engine)
    end(engine.pid)
    assert engine.connection.poll(5)
    with pytest.raises((EOFError, ConnectionError)):
        engine.receive()
    assert engine.end(1) == "signal SIGKILL"


def test_a_crash_comes_after_everything_that_was_made_before_it(start):
    engine = start(FAKE)
    ready(engine)
    engine.submit(ask(prompt="fake:crash"))
    heard: list[Update] = []
    with pytest.raises((EOFError, ConnectionError)):
        while True:
            heard += updates(engine)
    assert [update.text for update in heard] == [" 1", " 2"]
    assert engine.end(5) == "signal SIGSEGV"


def test_a_hung_engine_is_killed(start):
    engine = start(FAKE)
    ready(engine)
    engine.submit(ask("other", count=10**6))
    updates(engine)
    engine.submit(ask(prompt="fake:hang"))
    while engine.connection.poll(0.3):
        engine.receive()
    assert engine.end(0.2) == "signal SIGKILL"


def test_ctrl_c_is_not_for_the_engine(start):
    engine = start(FAKE)
    ready(engine)
    psutil.Process(engine.pid).send_signal(signal.SIGINT)
    engine.submit(ask())
    assert updates(engine)


PARENT = """
import sys
from engines.base import EngineSpec, GenerateTask, Sampling
from engines.client import EngineProcess
engine = EngineProcess(EngineSpec("llm", "fake", "", backend="fake"))
engine.receive(), engine.receive()
engine.submit(GenerateTask("a", "Hello", Sampling(10 ** 6)))
engine.receive()
if sys.argv[1] == "hangs":
    engine.submit(GenerateTask("b", "fake:hang", Sampling(5)))
    while engine.connection.poll(0.3):
        engine.receive()
print(engine.pid, flush=True)
sys.stdin.read()
"""


BROKEN = """
import atexit, os, socket, sys, time
from dataclasses import asdict
from multiprocessing.connection import Connection
from engines import process, wire
from engines.base import EngineSpec, GenerateTask, Sampling
atexit.register(time.sleep, 60)
ours, theirs = socket.socketpair()
with Connection(ours.detach()) as worker:
    wire.send(worker, "load", asdict(EngineSpec("llm", "fake", "", backend="fake")))
    wire.send(worker, "submit", wire.task_to(GenerateTask("a", "fake:break", Sampling(5))))
    sys.argv = ["", str(theirs.detach()), str(os.getppid())]
    process.main()
"""


def test_an_engine_that_breaks_says_why_and_ends_at_once_whatever_its_device_does_at_exit():
    """OpenVINO's destructors may hang: its worker would wait until it takes the engine for hung."""
    ended = subprocess.run([sys.executable, "-c", BROKEN], cwd=ROOT, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert "RuntimeError: broken" in ended.stderr


@pytest.mark.parametrize("engine", ["steps", "hangs"])
def test_an_engine_ends_with_its_parent_even_amid_a_step(engine):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, engine], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    with parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not gone(pid)
        parent.kill()
        parent.wait()
        try:
            until(lambda: gone(pid), 5, "the engine's end")
        finally:
            end(pid)


def test_much_to_say_in_both_directions_at_once_does_not_block_either(start):
    """A step with thousands of vectors fills the socket while the worker hands over the next thousands of texts: if
    both waited until the other reads, the worker would be stuck for ever, and all its jobs with it."""
    engine = start(FAKE_EMBED)
    ready(engine)
    texts = tuple(f"text {n} " + "x" * 40 for n in range(8_000))
    tasks = [EmbedTask(str(n), texts, (2,) * len(texts)) for n in range(4)]

    def submit_all() -> None:
        for task in tasks:
            engine.submit(task)

    worker = threading.Thread(target=submit_all, daemon=True)
    worker.start()
    worker.join(5)
    stuck = worker.is_alive()
    if stuck:
        end(engine.pid)
    assert not stuck, "the worker waits for an engine that waits for the worker"
    ended: list[str] = []
    while len(ended) < len(tasks):
        ended += [update.id for update in updates(engine) if update.end]
    assert sorted(ended) == ["0", "1", "2", "3"]


def test_a_model_that_no_npu_takes_falls_back_and_says_why():
    """On a machine without an NPU and on one where its driver fails, the CPU serves, and the facts tell of it."""
    _, facts = load_engine(replace(FAKE, device="NPU"), lambda text: None)
    assert facts.device == "CPU"
    assert facts.fallbacks == ("no NPU on this machine", "no GPU on this machine")

    said: list[str] = []
    properties = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "NOWHERE", "NPUW_ONLINE_PIPELINE": "NONE"}
    spec = EngineSpec("llm", "tiny", TINY, device="NPU", properties=properties, context_tokens=512)
    with pytest.raises(LoadError, match="NPU failed: "):
        # The CPU does not know those properties either.
        load_engine(replace(spec, device_hints=("NPU",)), said.append)
    assert said[0] == "loading tiny on NPU"


def test_on_an_npu_the_compiled_lengths_are_the_limits():
    properties = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}
    spec = EngineSpec(
        "llm",
        "tiny",
        TINY,
        device="NPU",
        properties=properties,
        context_tokens=4096,
        npu_max_prompt_tokens=64,
        npu_min_response_tokens=32,
    )
    said: list[str] = []
    _, facts = load_engine(spec, said.append)
    assert (facts.device, facts.slots) == ("NPU", 1)
    assert (facts.max_prompt_tokens, facts.context_tokens) == (64, 96)
    assert said == ["loading tiny on NPU", "warming up"]
