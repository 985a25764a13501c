"""From our sampling to GenAI's, and what is not left to its defaults."""

import openvino_genai as genai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engines.base import GenerateTask, Sampling
from engines.errors import PromptError
from engines.generation import as_tensor, input_ids, to_config


@pytest.fixture(scope="module")
def defaults():
    config = genai.GenerationConfig()
    config.set_eos_token_id(2)
    config.stop_token_ids = {2, 7}
    return config


def test_temperature_0_is_greedy_and_any_other_samples(defaults):
    assert to_config(Sampling(5, temperature=0.0), defaults).do_sample is False
    config = to_config(Sampling(5, temperature=0.5, top_p=0.9, top_k=3, min_p=0.1, seed=11), defaults)
    assert (config.do_sample, config.rng_seed, config.top_k) == (True, 11, 3)
    assert (round(config.temperature, 5), round(config.top_p, 5), round(config.min_p, 5)) == (0.5, 0.9, 0.1)


def test_penalties_and_the_end_tokens_are_passed_on(defaults):
    sampling = Sampling(
        5, presence_penalty=0.5, frequency_penalty=-0.5, repetition_penalty=1.5, stop_token_ids=(9,), ignore_eos=True
    )
    config = to_config(sampling, defaults)
    assert (config.presence_penalty, config.frequency_penalty, config.repetition_penalty) == (0.5, -0.5, 1.5)
    assert config.stop_token_ids == {2, 7, 9}
    assert (config.eos_token_id, config.ignore_eos) == (2, True)
    assert config.apply_chat_template is False


def test_stop_strings_are_not_genais_business(defaults):
    assert to_config(Sampling(5, stop=("x",)), defaults).stop_strings == set()


def test_without_a_seed_no_two_requests_draw_the_same(defaults):
    seeds = {to_config(Sampling(5), defaults).rng_seed for _ in range(20)}
    assert len(seeds) == 20


@pytest.mark.parametrize(("already", "left", "least"), [(0, 10, 4), (3, 7, 1), (9, 1, 0), (10, 1, 0)])
def test_a_resumed_request_asks_for_the_rest(defaults, already, left, least):
    config = to_config(Sampling(10, min_tokens=4), defaults, already)
    assert (config.max_new_tokens, config.min_new_tokens) == (left, least)


@given(
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    top_k=st.integers(0, 1000),
    seed=st.none() | st.integers(-(2**63), 2**63),
    presence=st.floats(-2, 2),
    least=st.integers(0, 200),
    already=st.integers(0, 120),
)
def test_whatever_the_schemas_let_through_genai_takes(
    defaults, temperature, top_p, min_p, top_k, seed, presence, least, already
):
    sampling = Sampling(
        100,
        temperature=temperature,
        top_p=top_p,
        min_p=min_p,
        top_k=top_k,
        seed=seed,
        presence_penalty=presence,
        min_tokens=least,
    )
    assert to_config(sampling, defaults, already).max_new_tokens >= 1


def test_a_prompt_and_what_was_made_of_it_are_one_row_of_tokens(models_dir):
    tokenizer = genai.Tokenizer(str(models_dir / "tiny-llama"))
    task = GenerateTask("t", "Hello", Sampling(5), resume=(7, 8))
    ids = input_ids(tokenizer, task, limit=100)
    assert ids[-2:] == [7, 8]
    assert tokenizer.decode(ids[:-2]) == "Hello"
    assert list(as_tensor(ids).data.shape) == [1, len(ids)]
    with pytest.raises(PromptError, match="cannot be continued"):
        input_ids(tokenizer, task, limit=len(ids))
