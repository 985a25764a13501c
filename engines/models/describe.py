"""What the files of a model say about it: its kind, its format, and what an engine must know to run it.

The rules, in order:
1. one .gguf file: an LLM in GGUF, which runs on CPU and GPU only;
2. openvino_language_model.xml: a vision model;
3. openvino_model.xml: what the architecture in config.json ends with tells the kind; a Sentence Transformers
   folder is an embedder whatever its architecture;
4. model.safetensors of a BERT: an embedder, to be converted (bert.py).
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.errors import UnsupportedModel
from engines.models.gguf import read_facts
from engines.models.manifest import EmbeddingFacts, Format, Kind, Pooling

#: For a model that says nothing of its context.
DEFAULT_CONTEXT_TOKENS = 512
GGUF_DEVICES = ("CPU", "GPU")
IR_DEVICES = ("CPU", "GPU", "NPU")
# TextRerankPipeline has no static-shape form; vision models are run by the pipeline that batches.
BATCHING_DEVICES = ("CPU", "GPU")

_CAUSAL = ("ForCausalLM", "LMHeadModel")


@dataclass(frozen=True)
class Description:
    """`convert` tells that the files are not runnable yet but that bert.py can make them so."""

    kind: Kind
    format: Format
    convert: bool
    context_tokens: int
    devices: tuple[str, ...]
    embedding: EmbeddingFacts | None
    family: str
    parameter_size: str
    quantization: str


def describe(folder: Path, hint: str, kind: Kind | None = None) -> Description:
    """Reads the small files and a GGUF's head. `hint` is the source's own name for the model, where sizes and
    quantizations are usually spelled out; `kind` overrules the guess. Raises UnsupportedModel."""
    paths = {path.name for path in folder.iterdir()}
    ggufs = sorted(path for path in paths if path.endswith(".gguf"))
    if len(ggufs) > 1:
        raise UnsupportedModel(f"{hint} holds {len(ggufs)} .gguf files: name one of {', '.join(ggufs)}")
    if ggufs:
        return _describe_gguf(folder / ggufs[0], kind)
    config = _json(folder / "config.json")
    pooled = "modules.json" in paths or (folder / "1_Pooling").is_dir()
    found = kind or guess_kind(paths, config, pooled, hint)
    convert = not any(name in paths for name in ("openvino_model.xml", "openvino_language_model.xml"))
    if convert and ("model.safetensors" not in paths or config.get("model_type") != "bert"):
        raise UnsupportedModel(
            f"{hint} holds neither OpenVINO IR nor a BERT in safetensors; look for a ready one under "
            "hf:OpenVINO/…, or convert it with optimum-intel and pull the folder with dir:"
        )
    if not convert and "openvino_tokenizer.xml" not in paths:
        raise UnsupportedModel(
            f"{hint} has no openvino_tokenizer.xml; make it with `convert_tokenizer` of openvino-tokenizers"
        )
    quantization = re.search(r"\b(int4|int8|nf4|fp16)\b", hint.lower())
    size = re.search(r"(?<![\d.])(\d+(?:\.\d+)?[bm])\b", hint.lower())
    text_config = config.get("text_config")
    return Description(
        kind=found,
        format="ir",
        convert=convert,
        context_tokens=_context_tokens(folder, config),
        devices=BATCHING_DEVICES if found in ("rerank", "vision") else IR_DEVICES,
        embedding=_embedding(folder, config, hint) if found == "embed" else None,
        family=str((text_config if isinstance(text_config, dict) else config).get("model_type", "")),
        parameter_size=size[1].upper() if size else "",
        quantization="FP16" if convert else (quantization[1].upper() if quantization else ""),
    )


def guess_kind(paths: set[str], config: dict[str, Any], pooled: bool, hint: str) -> Kind:
    """Rules 2 to 4. Raises UnsupportedModel, asking for --kind, when none of them speaks."""
    if "openvino_language_model.xml" in paths:
        return "vision"
    architectures = config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    # Qwen3-Embedding and its like name the language model that they were tuned from.
    if pooled or "embedding" in hint.lower():
        return "embed"
    if architecture.endswith("ForSequenceClassification"):
        return "rerank"
    if architecture.endswith(_CAUSAL):
        return "llm"
    if architecture.endswith("Model"):
        return "embed"
    raise UnsupportedModel(
        f"the files of {hint} do not tell what kind of model it is; say --kind llm, embed, vision or rerank"
    )


def _describe_gguf(path: Path, kind: Kind | None) -> Description:
    if kind not in (None, "llm"):
        raise UnsupportedModel(
            f"a .gguf file can only be an llm here, not {kind}; look for OpenVINO IR of it"
        )
    facts = read_facts(path)
    return Description(
        kind="llm",
        format="gguf",
        convert=False,
        context_tokens=facts.context_tokens or DEFAULT_CONTEXT_TOKENS,
        devices=GGUF_DEVICES,
        embedding=None,
        family=facts.architecture,
        parameter_size=short_count(facts.parameters),
        quantization=facts.quantization,
    )


def short_count(parameters: int) -> str:
    """135000000 is `135M`, 1100000000 is `1.1B`; 0 is unknown, so empty."""
    if parameters >= 10**9:
        return f"{parameters / 1e9:.1f}B"
    return f"{parameters / 1e6:.0f}M" if parameters else ""


def _context_tokens(folder: Path, config: dict[str, Any]) -> int:
    text_config = config.get("text_config")
    candidates = (
        _json(folder / "sentence_bert_config.json").get("max_seq_length"),
        config.get("max_position_embeddings"),
        text_config.get("max_position_embeddings") if isinstance(text_config, dict) else None,
        config.get("n_positions"),
    )
    found = next((value for value in candidates if isinstance(value, int) and value > 0), DEFAULT_CONTEXT_TOKENS)
    # RoBERTa counts positions from behind its padding token on: 514 of them hold 512 tokens.
    padding = config.get("pad_token_id")
    if "roberta" in str(config.get("model_type", "")) and isinstance(padding, int) and 0 <= padding < found - 1:
        return found if found == candidates[0] else found - padding - 1
    return found


def _embedding(folder: Path, config: dict[str, Any], hint: str) -> EmbeddingFacts:
    said = _json(folder / "config_sentence_transformers.json").get("prompts")
    prompts: dict[str, Any] = said if isinstance(said, dict) else {}
    dimensions = config.get("hidden_size")
    return EmbeddingFacts(
        pooling=_pooling(_json(folder / "1_Pooling" / "config.json"), config, hint),
        # Every retrieval model of today is compared by cosine; a vector of length one loses nothing.
        normalize=True,
        dimensions=dimensions if isinstance(dimensions, int) else 0,
        query_instruction=str(prompts.get("query") or ""),
        document_instruction=str(prompts.get("document") or prompts.get("passage") or ""),
    )


def _pooling(pooling: dict[str, Any], config: dict[str, Any], hint: str) -> Pooling:
    if pooling.get("pooling_mode_cls_token"):
        return "cls"
    if pooling.get("pooling_mode_lasttoken"):
        return "last_token"
    if pooling:
        return "mean"
    # OpenVINO's own repos drop the Sentence Transformers files, so the model card has to be known.
    if "qwen" in str(config.get("model_type", "")):
        return "last_token"
    return "cls" if re.search(r"bge|gte-.*-v1\.5|arctic", hint.lower()) else "mean"


def _json(path: Path) -> dict[str, Any]:
    """An object, empty if the file is not there or holds no object."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
