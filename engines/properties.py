"""The OpenVINO properties that each device is loaded with: one table."""

from __future__ import annotations

from typing import Any

from engines.base import EngineSpec
from engines.devices import family

#: The same text whatever runs beside it: with the default precisions (bf16, a KV cache of 8 bits, activations quantised
#: in groups) sums are rounded as the batch happens to be cut. About half as fast on a CPU with bf16.
REPRODUCIBLE = {
    "INFERENCE_PRECISION_HINT": "f32",
    "KV_CACHE_PRECISION": "f32",
    "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
}


def properties_for(spec: EngineSpec, device: str) -> dict[str, Any]:
    """What an engine of this kind is loaded with on that device. `spec.properties` win over everything here."""
    properties: dict[str, Any] = {"CACHE_DIR": spec.cache_dir} if spec.cache_dir else {}
    if family(device) == "NPU":
        if spec.kind == "llm":
            # Compiled in: https://docs.openvino.ai "NPU with OpenVINO GenAI".
            properties["MAX_PROMPT_LEN"] = spec.npu_max_prompt_tokens
            properties["MIN_RESPONSE_LEN"] = spec.npu_min_response_tokens
            properties |= {"PREFILL_HINT": spec.npu_prefill_hint, "GENERATE_HINT": spec.npu_generate_hint}
    elif spec.kind == "rerank" and family(device) == "CPU":
        # In bf16 a score has three digits at best, and documents that differ come out as equal.
        properties["INFERENCE_PRECISION_HINT"] = "f32"
    elif spec.reproducible:
        properties |= REPRODUCIBLE if spec.kind in ("llm", "vision") else {"INFERENCE_PRECISION_HINT": "f32"}
    return {**properties, **spec.properties}
