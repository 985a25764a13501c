"""Generation on a real tiny model: many at once on the CPU, one after the other on an emulated NPU."""

from dataclasses import replace
from pathlib import Path

import pytest

from engines.base import EngineSpec, GenerateTask, Sampling
from engines.llm import BatchingLLM
from engines.llm_serial import SerialLLM
from tests.engines.driving import run

FOLDER = str(Path(__file__).parents[1] / "fixtures" / "models" / "tiny-llama")
#: GenAI's own way to run the NPU's pipeline without an NPU.
EMULATED = {"NPU_USE_NPUW": "YES", "NPUW_DEVICES": "CPU", "NPUW_ONLINE_PIPELINE": "NONE"}
GREEDY = Sampling(40, temperature=0.0, ignore_eos=True)
PROMPTS = ["Hello", "The capital of France is", "one two three", "def main(args):", "{", "queue worker"]


@pytest.fixture(scope="module")
def batching():
    spec = EngineSpec("llm", "tiny", FOLDER, context_tokens=2048, slots=8, reproducible=True, max_step_tokens=64)
    engine = BatchingLLM(spec)
    assert engine.load("CPU", lambda text: None) == 8
    return engine


@pytest.fixture(scope="module")
def serial():
    spec = EngineSpec(
        "llm", "tiny", FOLDER, properties=EMULATED, npu_max_prompt_tokens=64, npu_min_response_tokens=32
    )
    engine = SerialLLM(spec)
    assert engine.load("NPU", lambda text: None) == 1
    return engine


@pytest.fixture(params=["batching", "serial"])
def engine(request):
    return request.getfixturevalue(request.param)


def ask(task_id, prompt="Hello", resume=(), **sampling):
    return GenerateTask(task_id, prompt, replace(GREEDY, **sampling), resume=resume)


def one(engine, task):
    return run(engine, [task])[task.id]


def decoded(engine, tokens):
    return engine._tokenizer.decode(list(tokens))


def test_the_text_is_that_of_the_tokens_and_ends_at_its_length(engine):
    got = one(engine, ask("a", max_tokens=30))
    assert (got.end.reason, len(got.tokens)) == ("length", 30)
    assert got.text == decoded(engine, got.tokens) != ""
    assert len(got.updates) > 20, "it streams"


def test_an_answer_of_one_token(engine):
    got = one(engine, ask("a", max_tokens=1))
    assert (got.end.reason, len(got.tokens)) == ("length", 1)


def test_a_model_that_is_at_its_end_stops(engine):
    got = one(engine, ask("a", max_tokens=90, ignore_eos=False, prompt="<|im_start|>user\nHi<|im_end|>\n"))
    if got.end.reason == "stop":
        assert len(got.tokens) < 90
    assert "<|im_end|>" not in got.text


def test_a_stop_token_ends_it(engine):
    whole = one(engine, ask("a"))
    token = whole.tokens[9]
    first = whole.tokens.index(token)
    got = one(engine, ask("b", stop_token_ids=(token,), ignore_eos=False))
    assert got.end.reason == "stop"
    assert len(got.tokens) <= first + 1


@pytest.mark.parametrize("length", [1, 2, 6])
def test_a_stop_string_ends_it_and_is_not_in_the_text(engine, length):
    whole = one(engine, ask("a", max_tokens=30)).text
    stop = whole[12 : 12 + length]
    got = one(engine, ask("b", max_tokens=30, stop=("not there", stop)))
    assert (got.text, got.end.reason) == (whole[: whole.find(stop)], "stop")


def test_a_stop_string_that_never_comes_holds_nothing_back_at_the_end(engine):
    whole = one(engine, ask("a", max_tokens=20)).text
    got = one(engine, ask("b", max_tokens=20, stop=(whole[-3:] + "\x01",)))
    assert (got.text, got.end.reason) == (whole, "length")


@pytest.mark.parametrize("after_updates", [1, 3, 10])
def test_a_resumed_task_goes_on_with_the_same_text(engine, after_updates):
    whole = one(engine, ask("a"))
    text = "".join(update.text for update in whole.updates[:after_updates])
    tokens = tuple(t for update in whole.updates[:after_updates] for t in update.tokens)
    rest = one(engine, ask("b", resume=tokens))
    assert text + rest.text == whole.text
    assert tokens + rest.tokens == whole.tokens
    assert rest.end == whole.end


def test_a_cancelled_task_says_nothing_more_and_leaves_room(engine):
    def cancel(got):
        if got["gone"].updates:
            engine.cancel("gone")

    got = run(engine, [ask("gone", max_tokens=2000)], cancel)["gone"]
    assert got.end is None
    assert 0 < len(got.updates) <= 2
    assert one(engine, ask("next", max_tokens=5)).end.reason == "length"
    engine.cancel("unknown")
    assert not engine.busy


def test_a_cancel_before_the_first_step(engine):
    engine.submit(ask("gone"))
    engine.cancel("gone")
    assert run(engine, [ask("kept", max_tokens=3)])["kept"].end is not None
    assert not engine.busy


def test_a_prompt_that_is_too_long_fails_alone(engine):
    got = run(engine, [ask("long", "queue " * 5_000), ask("short", max_tokens=5)])
    assert (got["long"].end.reason, got["long"].end.code) == ("failed", "bad_request")
    assert "/" not in got["long"].end.message
    assert got["short"].end.reason == "length"


@pytest.mark.parametrize("prompt", ["", "\ud800"])
def test_a_prompt_that_genai_does_not_take_fails_alone(engine, prompt):
    got = run(engine, [ask("bad", prompt), ask("good", max_tokens=5)])
    assert got["bad"].end.reason == "failed"
    assert got["good"].end.reason == "length"


def test_sampling_with_one_seed_repeats_and_with_none_does_not(engine):
    def sample(name, seed):
        return one(engine, ask(name, max_tokens=20, temperature=1.5, seed=seed)).text

    assert sample("a", 7) == sample("b", 7)
    assert len({sample("c", None), sample("d", None), sample("e", None)}) > 1


@pytest.mark.parametrize("after_updates", [1, 2, 5, 20])
def test_what_a_stop_string_held_back_is_not_lost_when_resumed(engine, after_updates):
    """Every character may begin a stop string here, so at any moment the last one is held back."""
    plain = one(engine, ask("a")).text
    stop = tuple(character + "\x01" for character in sorted(set(plain)))
    whole = one(engine, ask("b", stop=stop))
    assert whole.text == plain
    sent = whole.updates[:after_updates]
    tokens = tuple(t for update in sent for t in update.tokens)
    rest = one(engine, ask("c", stop=stop, resume=tokens))
    assert "".join(update.text for update in sent) + rest.text == plain


# --- batching


def test_several_at_once_each_say_what_they_say_alone(batching):
    alone = [one(batching, ask("x", prompt)) for prompt in PROMPTS]
    together = run(batching, [ask(str(n), prompt) for n, prompt in enumerate(PROMPTS)])
    assert [together[str(n)].text for n in range(len(PROMPTS))] == [got.text for got in alone]


def test_more_tasks_than_slots_all_come_to_their_end(batching):
    got = run(batching, [ask(str(n), max_tokens=6) for n in range(20)])
    assert {len(each.tokens) for each in got.values()} == {6}


def test_when_one_of_several_is_cancelled_the_others_do_not_notice(batching):
    alone = [one(batching, ask("x", prompt)).text for prompt in PROMPTS]

    def cancel(got):
        if len(got["2"].tokens) >= 5:
            batching.cancel("2")

    got = run(batching, [ask(str(n), prompt) for n, prompt in enumerate(PROMPTS)], cancel)
    assert got["2"].end is None
    assert len(got["2"].tokens) < 8
    assert [got[str(n)].text for n in range(6) if n != 2] == [text for n, text in enumerate(alone) if n != 2]


def test_a_long_prompt_is_taken_in_pieces_while_others_go_on(batching):
    """1,000 tokens at 64 a step: a task that runs is not held up by it."""
    batching.submit(ask("running", max_tokens=200))
    while not any(update.tokens for update in batching.step()):
        pass
    batching.submit(ask("long", "queue " * 500, max_tokens=3))
    meanwhile = 0
    first = False
    while not first:
        updates = batching.step()
        first = any(update.id == "long" for update in updates)
        meanwhile += sum(len(update.tokens) for update in updates if update.id == "running")
    assert meanwhile >= 5
    batching.cancel("running")
    assert run(batching, [])["long"].end.reason == "length"


# --- one at a time


def test_two_tasks_take_turns_in_order_of_arrival(serial):
    ends: list[str] = []

    def note(got):
        ends.extend(name for name, each in got.items() if each.end and name not in ends)

    got = run(serial, [ask("a", max_tokens=10), ask("b", "one two", max_tokens=10), ask("c", max_tokens=2)], note)
    assert ends == ["a", "b", "c"]
    assert got["a"].text == one(serial, ask("x", max_tokens=10)).text
    assert got["b"].text == one(serial, ask("x", "one two", max_tokens=10)).text


def test_a_compiled_length_that_is_full_ends_with_length(serial):
    """GenAI stops there silently, as if the model had nothing more to say."""
    got = one(serial, ask("a", max_tokens=1000))
    assert got.end.reason == "length"
    assert 32 <= len(got.tokens) < 64 + 32


def test_a_cancelled_task_that_waits_never_runs(serial):
    serial.submit(ask("first", max_tokens=5))
    serial.submit(ask("gone", max_tokens=5))
    serial.cancel("gone")
    assert set(run(serial, [])) == {"first"}
