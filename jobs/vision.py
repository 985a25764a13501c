"""Prompts for vision models: images among the words of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.image_tags import image_tag, untagged, without_tags
from jobs.errors import BadPrompt
from jobs.models import OfferedModel
from jobs.request import GenerateRequest, Image


def has_images(request: GenerateRequest) -> bool:
    return any(isinstance(message.get("content"), tuple) for message in request.messages)


def vision_prompt(request: GenerateRequest, model: OfferedModel, limit: int) -> tuple[str, tuple[str, ...], int]:
    """The prompt as text, its images, and its tokens with theirs: of a text of over `limit` tokens, as many as show it.

    Raises `BadPrompt` for images to a model that knows none, and `PromptError`.
    """
    if model.kind != "vision":
        raise BadPrompt(f"Images are not served by this model: {model.name} takes text only.", request.param)
    images: list[Image] = []
    messages = [_with_tags(message, images) for message in request.messages]
    prompt = model.tokenizer.render(messages) if messages else untagged(request.prompt)
    [count] = model.tokenizer.count([without_tags(prompt)], limit, special=not messages)
    count += sum(model.image_tokens(image.width, image.height) for image in images)
    return prompt, tuple(image.data for image in images), count


def _with_tags(message: Mapping[str, Any], images: list[Image]) -> Mapping[str, Any]:
    """The message with a tag for each image, which is added to `images`."""
    content = message.get("content")
    pieces: list[str] = []
    for part in content if isinstance(content, tuple) else (content or "",):
        if isinstance(part, Image):
            pieces.append(image_tag(len(images)))
            images.append(part)
        else:
            pieces.append(untagged(part))
    rest = {name: untagged(value) for name, value in message.items() if name != "content"}
    return {**rest, "content": "".join(pieces)}
