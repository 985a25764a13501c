"""Vision models where the device batches (CPU, GPU): as `engines.llm`, with images in the prompt.

GenAI takes such a prompt as text only, not as tokens, and encodes it itself. An image is encoded when its request is
added, before the first step: that is the one thing here that a cancel has to wait for.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace

import numpy as np
import openvino as ov
import openvino_genai as genai
from PIL import Image

from engines import special_tokens
from engines.base import EngineSpec, GenerateTask
from engines.generation import WARM_UP
from engines.image_tags import image_tag, spelled, untagged
from engines.llm import BatchingLLM

#: Writes a prompt as it is. Without a template GenAI would put the tokenizer's own special tokens before a prompt that
#: has them from its real template already.
AS_IT_IS = "{% for message in messages %}{{ message.content }}{% endfor %}"


class VisionLLM(BatchingLLM):
    """Several chats at once, with or without images."""

    def __init__(self, spec: EngineSpec) -> None:
        super().__init__(spec)
        self._special_tokens: re.Pattern[str] | None = None

    def _warm_up(self) -> None:
        self._special_tokens = special_tokens.special_tokens(self._tokenizer)
        self._tokenizer.set_chat_template(AS_IT_IS)
        super()._warm_up()
        blank = io.BytesIO()
        Image.new("RGB", (64, 64), "white").save(blank, "PNG")
        picture = base64.b64encode(blank.getvalue()).decode("ascii")
        self.submit(replace(WARM_UP, prompt=image_tag(0) + WARM_UP.prompt, images=(picture,)))
        while self.busy:
            self.step()

    def _add(self, number: int, task: GenerateTask, config: genai.GenerationConfig) -> genai.GenerationHandle:
        """What a resumed task has said is put behind its prompt as text: the model may read it as other tokens than it
        wrote, but goes on behind the same words."""
        config.apply_chat_template = not task.add_special_tokens
        prompt = spelled(task.prompt + self._said(task))
        return self._pipeline.add_request(number, prompt, [to_tensor(image) for image in task.images], config)

    def _said(self, task: GenerateTask) -> str:
        if not task.resume:
            return ""
        text = untagged(self._tokenizer.decode(list(task.resume)).rstrip("\ufffd"))
        said: str = text if self._special_tokens is None else special_tokens.broken(text, self._special_tokens)
        return said


def to_tensor(image: str) -> ov.Tensor:
    """The pixels of a base64 PNG or JPEG as GenAI takes them: bytes of shape [1, height, width, 3]. It does not check
    the shape, and dies of an image without pixels."""
    with Image.open(io.BytesIO(base64.b64decode(image)), formats=("PNG", "JPEG")) as opened:
        pixels = np.asarray(opened.convert("RGB"), dtype=np.uint8)
    assert pixels.size and pixels.shape[2] == 3, pixels.shape
    return ov.Tensor(np.ascontiguousarray(pixels[None]))
