"""What is asked of both sides, and that they do it alike."""

from dataclasses import replace
from itertools import islice

import pytest

from bench import workload
from bench.plan import FULL, QUICK
from bench.sides import BenchError, Generation, check_same
from engines.base import EngineSpec

DONE = Generation(first_s=0.1, total_s=2.0, tokens=128, prompt_tokens=30, texts=("",))


def test_no_prompt_comes_twice() -> None:
    prompts = list(islice(workload.prompts(), 1000))
    assert len(set(prompts)) == 1000
    assert len({len(prompt) for prompt in prompts}) == 1


def test_the_texts_are_the_same_in_every_run_and_of_mixed_lengths() -> None:
    texts = workload.mixed_texts(200)
    assert texts == workload.mixed_texts(200)
    assert {4, 160} <= {len(text.split()) for text in texts}


def test_sides_that_worked_differently_are_not_compared() -> None:
    check_same(DONE, replace(DONE, first_s=0.2, total_s=3.0, texts=("other",)))
    for other in (replace(DONE, tokens=127), replace(DONE, prompt_tokens=31)):
        with pytest.raises(BenchError, match="not do the same work"):
            check_same(DONE, other)


@pytest.mark.parametrize("plan", [FULL, QUICK])
def test_a_round_that_takes_too_long_is_run_the_least_number_of_times(plan) -> None:
    assert len(list(plan.rounds(budget_s=0.0))) == plan.least_rounds


def test_the_model_in_process_batches_as_the_engine_does() -> None:
    pytest.importorskip("openvino_genai")
    from bench.reference_process import scheduler_config
    from engines.llm import BatchingLLM

    spec = EngineSpec("llm", "m", "", max_step_tokens=99, kv_cache_gb=2, prefix_caching=True, slots=3)
    for wanted in (spec, replace(spec, slots=0)):
        assert scheduler_config(wanted).to_string() == BatchingLLM(wanted)._scheduler().to_string()
