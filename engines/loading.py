"""Which engine serves what, and loading it on the first device of the chain that takes the model."""

from __future__ import annotations

import time
from collections.abc import Sequence

from engines.base import Engine, EngineFacts, EngineSpec, LoadProgress
from engines.devices import CHAIN, candidates, failure_category, family
from engines.errors import LoadError


def load_engine(spec: EngineSpec, progress: LoadProgress) -> tuple[Engine, EngineFacts]:
    """The engine, loaded and warm, on the wanted device or the next of NPU → GPU → CPU, and its facts.

    Blocks for seconds to minutes. Raises `LoadError` with every device's reason when none takes it.
    """
    passed_over: list[str] = []
    for candidate in candidates(spec.device, _available(spec), _families(spec), spec.properties):
        reason = candidate.skip
        if not reason:
            progress(f"loading {spec.model} on {candidate.device}")
            engine = _make(spec, candidate.device)
            started = time.monotonic()
            try:
                slots = engine.load(candidate.device, progress)
            except Exception as error:
                engine.close()
                reason = f"{candidate.device} failed: {failure_category(str(error))}"
                progress(f"{reason}: {str(error).strip()}")
            else:
                load_s = round(time.monotonic() - started, 3)
                return engine, _facts(spec, candidate.device, slots, load_s, tuple(passed_over))
        passed_over.append(reason)
    raise LoadError(f"{spec.model} loads on no device: {'; '.join(passed_over)}.")


def _facts(
    spec: EngineSpec, device: str, slots: int, load_s: float, passed_over: tuple[str, ...]
) -> EngineFacts:
    """An NPU's pipeline has its lengths compiled in; elsewhere the model's context is the limit."""
    context = longest_prompt = spec.context_tokens
    if spec.kind == "llm" and family(device) == "NPU":
        longest_prompt = min(context, spec.npu_max_prompt_tokens)
        context = min(context, longest_prompt + spec.npu_min_response_tokens)
    return EngineFacts(spec.kind, spec.model, device, context, longest_prompt, slots, load_s, passed_over)


def _families(spec: EngineSpec) -> Sequence[str]:
    """Where a model's format runs, by its manifest; ranking and vision have no engine for an NPU here."""
    if spec.kind in ("rerank", "vision"):
        return [each for each in spec.device_hints or CHAIN if each != "NPU"]
    return spec.device_hints


def _available(spec: EngineSpec) -> Sequence[str]:
    if spec.backend == "fake":
        return ("CPU",)
    import openvino

    return tuple(openvino.Core().available_devices)


def _make(spec: EngineSpec, device: str) -> Engine:
    """One class a kind of pipeline. Imported here: each brings OpenVINO in, which the fake does without."""
    if spec.backend == "fake":
        from engines.fake import FakeEngine

        return FakeEngine(spec)
    if spec.kind == "embed":
        from engines.embed import TextEmbedder

        return TextEmbedder(spec)
    if spec.kind == "rerank":
        from engines.rerank import TextReranker

        return TextReranker(spec)
    if spec.kind == "vision":
        from engines.vision import VisionLLM

        return VisionLLM(spec)
    if family(device) == "NPU":
        from engines.llm_serial import SerialLLM

        return SerialLLM(spec)
    from engines.llm import BatchingLLM

    return BatchingLLM(spec)
