"""Where images stand in a prompt for GenAI's vision pipelines: its own tags, which no text of a caller can forge.

GenAI replaces `<ov_genai_image_0>` by what the model knows an image by, and also reads the model's own spelling of that
(`<image>`, `<|image_1|>`, …) in any text. The prompt goes to it as text, so nothing in a message can be kept apart by
its tokens, as `engines.special_tokens` does: such words are written with a space instead.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from engines.special_tokens import BREAK

#: The word that a tag is about stands in it, with no space.
_TAG = re.compile(r"<(?=[^<>\s]{0,40}(?:image|img|video|vision|audio|ov_genai)[^<>\s]{0,40}>)", re.IGNORECASE)
_OURS = re.compile(r"<ov_genai_image_\d+>")


def image_tag(number: int) -> str:
    """Stands for the image of that number, from 0."""
    return f"<ov_genai_image_{number}>"


def untagged(value: Any) -> Any:
    """A message or whatever is in it, with no tag in its texts: `<image>` becomes `< image>`."""
    if isinstance(value, str):
        return _TAG.sub("< ", value)
    if isinstance(value, Mapping):
        return {untagged(name): untagged(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [untagged(each) for each in value]
    return value


def without_tags(prompt: str) -> str:
    """A prompt less `image_tag`s, to count its text."""
    return _OURS.sub("", prompt)


def spelled(prompt: str) -> str:
    """A rendered prompt as GenAI is given it: a space where a caller's special token was broken."""
    return prompt.replace(BREAK, " ")
