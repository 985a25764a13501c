"""What each device is loaded with."""

from dataclasses import replace

import pytest

from engines.base import EngineSpec
from engines.properties import REPRODUCIBLE, properties_for

LLM = EngineSpec("llm", "m", "/m", npu_max_prompt_tokens=300, npu_min_response_tokens=40)
EMBED = replace(LLM, kind="embed")


def test_an_npu_is_compiled_for_its_lengths_and_by_the_hints():
    spec = replace(LLM, npu_generate_hint="BEST_PERF", cache_dir="/c")
    expected = {"MAX_PROMPT_LEN": 300, "MIN_RESPONSE_LEN": 40, "PREFILL_HINT": "DYNAMIC", "GENERATE_HINT": "BEST_PERF"}
    assert properties_for(spec, "NPU") == {"CACHE_DIR": "/c", **expected}


@pytest.mark.parametrize("device", ["CPU", "GPU", "GPU.1"])
def test_other_devices_take_no_lengths(device):
    assert properties_for(LLM, device) == {}
    assert properties_for(replace(LLM, reproducible=True), device) == REPRODUCIBLE


def test_an_embedder_has_no_kv_cache_whose_precision_matters():
    assert properties_for(replace(EMBED, reproducible=True), "CPU") == {"INFERENCE_PRECISION_HINT": "f32"}
    assert properties_for(EMBED, "NPU") == {}


def test_a_users_own_properties_win_over_all_of_it():
    own = {"MAX_PROMPT_LEN": 64, "KV_CACHE_PRECISION": "u8"}
    assert properties_for(replace(LLM, properties=own), "NPU")["MAX_PROMPT_LEN"] == 64
    assert properties_for(replace(LLM, properties=own, reproducible=True), "CPU")["KV_CACHE_PRECISION"] == "u8"
