"""Prompts for vision models: images among the words of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engines.image_tags import image_tag, untagged, without_tags
from jobs.chat import Prompt
from jobs.errors import BadPrompt
from jobs.models import OfferedModel
from jobs.reading import Reading
from jobs.request import GenerateRequest, Image


def has_images(request: GenerateRequest) -> bool:
    return any(isinstance(message.get("content"), tuple) for message in request.messages)


def vision_prompt(request: GenerateRequest, model: OfferedModel, limit: int) -> tuple[Prompt, tuple[str, ...], int]:
    """The prompt, its images, and its tokens with theirs: of a text of over `limit` tokens, as many as show it.

    Raises `BadPrompt` for images to a model that knows none and for what vision models are not asked for here, and
    `PromptError`.
    """
    if model.kind != "vision":
        raise BadPrompt(f"Images are not served by this model: {model.name} takes text only.", request.param)
    if request.tools.offered:
        raise BadPrompt(f"Tools are not served by this model: {model.name} is for images.", "tools")
    if request.grammar is not None:
        raise BadPrompt(f"{model.name} is for images and follows no form.", request.grammar_param)
    images: list[Image] = []
    messages = [_with_tags(message, images) for message in request.messages]
    prompt = model.tokenizer.render(messages) if messages else untagged(request.prompt)
    [count] = model.tokenizer.count([without_tags(prompt)], limit, special=not messages)
    count += sum(model.image_tokens(image.width, image.height) for image in images)
    return Prompt(prompt, not messages, None, "", Reading()), tuple(image.data for image in images), count


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
