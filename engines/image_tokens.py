"""How much of a vision model's context an image takes, from the model's small files, without its weights.

Exact where a model gives each image as many tokens (LLaVA, Gemma 3) or goes by its size (Qwen2-VL and later). Models
that cut an image into tiles (InternVL, LLaVA-NeXT, MiniCPM-V) are counted with all the tiles that they may take, so
that no prompt is let in that does not fit: the number told is then the most it can be. GenAI does not tell the number.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: For a model whose files do not say.
UNKNOWN_TOKENS = 1024
#: The tokens around an image: its beginning, its end, a line break.
AROUND_TOKENS = 3

Count = Callable[[int, int], int]


def image_tokens(folder: Path) -> Count:
    """The tokens of an image by its width and height in pixels. Reads the model's config files."""
    config, processor = _read(folder / "config.json"), _read(folder / "preprocessor_config.json")
    family = str(config.get("model_type", ""))
    if family.startswith(("qwen2_vl", "qwen2_5_vl", "qwen3_vl")):
        return _by_size(processor)
    tiles = _tiles(family, config)
    for name in ("mm_tokens_per_image", "image_seq_length", "query_num"):
        if each := _whole(config.get(name)):
            return fixed(each * tiles)
    vision = config.get("vision_config")
    seen: dict[str, Any] = vision if isinstance(vision, dict) else {}
    side = _whole(config.get("force_image_size")) or _whole(seen.get("image_size"))
    patch = _whole(seen.get("patch_size"))
    if not side or not patch:
        return fixed(UNKNOWN_TOKENS)
    ratio = config.get("downsample_ratio")
    shrunk = float(ratio) ** 2 if isinstance(ratio, int | float) and ratio > 0 else 1.0
    return fixed(math.ceil((side // patch) ** 2 * shrunk) * tiles)


def fixed(tokens: int) -> Count:
    """As many for every image."""
    return lambda width, height: tokens + AROUND_TOKENS


def _tiles(family: str, config: dict[str, Any]) -> int:
    """The most tiles of an image, with the one that shows all of it."""
    if family.startswith("internvl"):
        return (_whole(config.get("max_dynamic_patch")) or 12) + 1
    if family.startswith("minicpm"):
        return (_whole(config.get("max_slice_nums")) or 9) + 1
    return 5 if family.startswith("llava_next") else 1


def _by_size(processor: dict[str, Any]) -> Count:
    size = processor.get("size")
    sizes: dict[str, Any] = size if isinstance(size, dict) else {}
    side = (_whole(processor.get("patch_size")) or 14) * (_whole(processor.get("merge_size")) or 2)
    least = _whole(processor.get("min_pixels")) or _whole(sizes.get("shortest_edge")) or 4 * side * side
    most = _whole(processor.get("max_pixels")) or _whole(sizes.get("longest_edge")) or 16_384 * side * side
    return lambda width, height: resized_tokens(width, height, side, least, most) + AROUND_TOKENS


def resized_tokens(width: int, height: int, side: int, least: int, most: int) -> int:
    """The squares of `side` pixels in an image when it has been resized to whole ones, between `least` and `most`
    pixels in all: Qwen2-VL's `smart_resize`."""
    across, down = (max(1, round(length / side)) for length in (width, height))
    if across * down * side * side > most:
        scale = math.sqrt(width * height / most)
        across, down = (max(1, math.floor(length / scale / side)) for length in (width, height))
    elif across * down * side * side < least:
        scale = math.sqrt(least / (width * height))
        across, down = (math.ceil(length * scale / side) for length in (width, height))
    return across * down


def _whole(value: object) -> int:
    """A positive whole number, else 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}
