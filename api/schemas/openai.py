"""OpenAI's request bodies. Wire: the types of the official `openai` client; extensions by the names vLLM uses."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from api.schemas.fields import (
    MAX_TOKENS,
    MAX_WHOLE,
    MODEL,
    ROLES,
    Body,
    Flag,
    Number,
    Object,
    Picture,
    Some,
    Stops,
    Text,
    Whole,
)
from api.schemas.structured import ResponseFormat, StructuredOutputs
from api.schemas.tools import ToolChoice, ToolList, check_choice

#: How many messages or texts one request may hold is a setting, checked in `api.serve`; these bound the rest.
MAX_METADATA = 16
MAX_PARTS = 1024
MAX_TOKEN_IDS = 131_072


class Content(fields.Field[str | tuple[str | Picture, ...]]):
    """A message's content: text, null (an assistant's that called a tool), or parts. Parts that are all text are one;
    with images they stay apart."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str | tuple[str | Picture, ...]:
        text = Text()
        if not isinstance(value, list):
            return str(text.deserialize(value))
        if len(value) > MAX_PARTS:
            raise ValidationError(f"At most {MAX_PARTS} parts.")
        parts: list[str | Picture] = []
        for index, part in enumerate(value):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise ValidationError({index: ["Not a content part."]})
            if part["type"] == "image_url":
                parts.append(image_part(index, part))
                continue
            if part["type"] not in ("text", "refusal"):
                raise ValidationError({index: [f"Parts of type {part['type'][:40]!r} are not served by this model."]})
            parts.append(str(text.deserialize(part.get(part["type"]))))
        texts = [part for part in parts if isinstance(part, str)]
        return "".join(texts) if len(texts) == len(parts) else tuple(parts)


def image_part(index: int, part: dict[str, Any]) -> Picture:
    """The image of an `image_url` part; `detail` is left out, as every image is served at one size."""
    at = part.get("image_url")
    url = at.get("url") if isinstance(at, dict) else at
    if not isinstance(url, str) or not url:
        raise ValidationError({index: {"image_url": ["Not an object with the url of an image."]}})
    return Picture(url, True, f"content[{index}].image_url")


class FunctionCall(Object):
    name = Text(required=True, validate=validate.Length(1, 200))
    arguments = Text(required=True)


class ToolCall(Object):
    id = Text(required=True, validate=validate.Length(max=200))
    type = Text(load_default="function", validate=validate.OneOf(["function"]))
    function = fields.Nested(FunctionCall, required=True)


class Message(Object):
    role = Text(required=True, validate=validate.OneOf(ROLES))
    content = Content(load_default="")
    tool_calls = Some(fields.Nested(ToolCall), 128)
    tool_call_id = Text(validate=validate.Length(max=200))
    reasoning_content = Text()


class StreamOptions(Object):
    include_usage = Flag(load_default=False)


class Metadata(fields.Dict):
    """At most 16 short strings, as OpenAI has it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            keys=Text(validate=validate.Length(max=64)),
            values=Text(validate=validate.Length(max=512)),
            **kwargs,
        )

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, str]:
        if isinstance(value, dict) and len(value) > MAX_METADATA:
            raise ValidationError(f"At most {MAX_METADATA} entries.")
        found: dict[str, str] = super()._deserialize(value, attr, data, **kwargs)  # type: ignore[no-untyped-call]
        return found


class Generation(Body):
    """What chat and plain completions share."""

    model = Text(**MODEL)
    stream = Flag(load_default=False)
    stream_options = fields.Nested(StreamOptions)
    max_tokens = Whole(1, MAX_TOKENS)
    temperature = Number(0, 2)
    top_p = Number(0, 1)
    stop = Stops()
    seed = Whole(-MAX_WHOLE, MAX_WHOLE)
    presence_penalty = Number(-2, 2)
    frequency_penalty = Number(-2, 2)
    user = Text(validate=validate.Length(max=512))
    top_k = Whole(-1, MAX_TOKENS)
    min_p = Number(0, 1)
    repetition_penalty = Number(0.01, 10)
    ignore_eos = Flag()
    min_tokens = Whole(0, MAX_TOKENS)
    stop_token_ids = Some(Whole(0, MAX_TOKENS), 64)


class TemplateContext(Object):
    """Variables for the chat template; only this one is handed on."""

    enable_thinking = Flag()


class ChatCompletion(Generation):
    unsupported = {
        "n": (1,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "logit_bias": ({},),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
    }

    messages = fields.List(fields.Nested(Message), required=True, validate=validate.Length(min=1))
    max_completion_tokens = Whole(1, MAX_TOKENS)
    metadata = Metadata()
    tools = ToolList()
    tool_choice = ToolChoice()
    parallel_tool_calls = Flag()
    chat_template_kwargs = fields.Nested(TemplateContext)
    response_format = fields.Nested(ResponseFormat)
    structured_outputs = fields.Nested(StructuredOutputs)

    @validates_schema
    def check_one_form(self, data: Any, **kwargs: Any) -> None:
        check_choice(data)
        if data.get("structured_outputs") and data.get("response_format", {}).get("type", "text") != "text":
            raise ValidationError("Not together with response_format.", "structured_outputs")


class Prompt(fields.Field[str]):
    """A text, or a list of just one: several prompts in one request are not served."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, list):
            raise ValidationError("One prompt in a request, please; token ids are not taken.")
        text = str(Text().deserialize(value))
        if not text:
            raise ValidationError("It is empty.")
        return text


class Completion(Generation):
    unsupported = {
        "n": (1,),
        "best_of": (1,),
        "logprobs": (),
        "echo": (False,),
        "suffix": ("",),
        "logit_bias": ({},),
        "response_format": ({"type": "text"},),
        "structured_outputs": (),
    }

    prompt = Prompt(required=True)


class Inputs(fields.Field[tuple[str | tuple[int, ...], ...]]):
    """A text, texts, a text's token ids, or lists of token ids (LangChain's client sends those)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        one = isinstance(value, str) or _is_tokens(value)
        items = [value] if one else value
        if not isinstance(items, list) or not value:
            raise ValidationError("Not a text, a list of texts, or token ids; it must not be empty.")
        return tuple(self._item(index, item) for index, item in enumerate(items))

    def _item(self, index: int, item: Any) -> str | tuple[int, ...]:
        if isinstance(item, str) and item:
            return str(Text().deserialize(item))
        if _is_tokens(item):
            return tuple(item)
        raise ValidationError({index: ["Not a text or a list of token ids, or empty."]})


def _is_tokens(value: object) -> bool:
    return isinstance(value, list) and 0 < len(value) <= MAX_TOKEN_IDS and all(map(_is_token, value))


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


class Embeddings(Body):
    model = Text(**MODEL)
    input = Inputs(required=True)
    encoding_format = Text(load_default="float", validate=validate.OneOf(["float", "base64"]))
    dimensions = Whole(1, 65_536)
    user = Text(validate=validate.Length(max=512))
