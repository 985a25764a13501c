"""OpenAI's request bodies. Wire: the types of the official `openai` client; extensions by the names vLLM uses."""

from __future__ import annotations

from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, validate

from api.schemas.fields import (
    MAX_TOKENS,
    MAX_WHOLE,
    MODEL,
    ROLES,
    Body,
    Flag,
    Number,
    Stops,
    Text,
    Whole,
)

#: How many texts one request may hold is a setting; this bounds what is looked at before it is checked.
MAX_METADATA = 16


class Content(fields.Field[str]):
    """A message's content: text, null (an assistant's that called a tool), or parts, of which only text is served."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text = Text()
        if not isinstance(value, list):
            return str(text.deserialize(value))
        texts = []
        for index, part in enumerate(value):
            if not isinstance(part, dict) or not isinstance(part.get("type"), str):
                raise ValidationError({index: ["Not a content part."]})
            if part["type"] not in ("text", "refusal"):
                raise ValidationError({index: [f"Parts of type {part['type'][:40]!r} are not served by this model."]})
            texts.append(str(text.deserialize(part.get(part["type"]))))
        return "".join(texts)


class FunctionCall(Schema):
    name = Text(required=True, validate=validate.Length(1, 200))
    arguments = Text(required=True)

    class Meta:
        unknown = EXCLUDE


class ToolCall(Schema):
    id = Text(required=True, validate=validate.Length(max=200))
    type = Text(load_default="function", validate=validate.OneOf(["function"]))
    function = fields.Nested(FunctionCall, required=True)

    class Meta:
        unknown = EXCLUDE


class Message(Schema):
    role = Text(required=True, validate=validate.OneOf(ROLES))
    content = Content(load_default="", allow_none=True)
    tool_calls = fields.List(fields.Nested(ToolCall), validate=validate.Length(max=128), allow_none=True)
    tool_call_id = Text(allow_none=True, validate=validate.Length(max=200))

    class Meta:
        unknown = EXCLUDE


class StreamOptions(Schema):
    include_usage = Flag(load_default=False, allow_none=True)

    class Meta:
        unknown = EXCLUDE


class Metadata(fields.Dict):
    """At most 16 short strings, as OpenAI has it."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            keys=Text(validate=validate.Length(max=64)),
            values=Text(validate=validate.Length(max=512)),
            validate=validate.Length(max=MAX_METADATA),
            allow_none=True,
            **kwargs,
        )


class Generation(Body):
    """What chat and plain completions share."""

    model = Text(**MODEL)
    stream = Flag(load_default=False, allow_none=True)
    stream_options = fields.Nested(StreamOptions, allow_none=True)
    max_tokens = Whole(1, MAX_TOKENS, allow_none=True)
    temperature = Number(0, 2, allow_none=True)
    top_p = Number(0, 1, allow_none=True)
    stop = Stops(allow_none=True)
    seed = Whole(-MAX_WHOLE, MAX_WHOLE, allow_none=True)
    presence_penalty = Number(-2, 2, allow_none=True)
    frequency_penalty = Number(-2, 2, allow_none=True)
    user = Text(allow_none=True, validate=validate.Length(max=512))
    top_k = Whole(-1, MAX_TOKENS, allow_none=True)
    min_p = Number(0, 1, allow_none=True)
    repetition_penalty = Number(0.01, 10, allow_none=True)
    ignore_eos = Flag(allow_none=True)
    min_tokens = Whole(0, MAX_TOKENS, allow_none=True)
    stop_token_ids = fields.List(Whole(0, MAX_TOKENS), validate=validate.Length(max=64), allow_none=True)


class ChatCompletion(Generation):
    unsupported = {
        "n": (1,),
        "logprobs": (False,),
        "top_logprobs": (0,),
        "tools": ([],),
        "tool_choice": ("none", "auto"),
        "functions": ([],),
        "function_call": ("none", "auto"),
        "response_format": ({"type": "text"},),
        "logit_bias": ({},),
        "modalities": (["text"],),
        "audio": (),
        "prediction": (),
        "web_search_options": (),
        "structured_outputs": (),
    }

    messages = fields.List(fields.Nested(Message), required=True, validate=validate.Length(min=1))
    max_completion_tokens = Whole(1, MAX_TOKENS, allow_none=True)
    metadata = Metadata()


class Completion(Generation):
    unsupported = {
        "n": (1,),
        "best_of": (1,),
        "logprobs": (),
        "echo": (False,),
        "suffix": ("",),
        "logit_bias": ({},),
    }

    prompt = Text(required=True, validate=validate.Length(min=1))


class Inputs(fields.Field[tuple[str | tuple[int, ...], ...]]):
    """A text, texts, a text's token ids, or lists of token ids (LangChain's client sends those)."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        one = isinstance(value, str) or (isinstance(value, list) and value and all(map(_is_token, value)))
        items = [value] if one else value
        if not isinstance(items, list) or not items:
            raise ValidationError("Not a text, a list of texts, or token ids; it must not be empty.")
        return tuple(self._item(index, item) for index, item in enumerate(items))

    def _item(self, index: int, item: Any) -> str | tuple[int, ...]:
        if isinstance(item, str) and item:
            return str(Text().deserialize(item))
        if isinstance(item, list) and item and all(map(_is_token, item)):
            return tuple(item)
        raise ValidationError({index: ["Not a text or a list of token ids, or empty."]})


def _is_token(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS


class Embeddings(Body):
    model = Text(**MODEL)
    input = Inputs(required=True)
    encoding_format = Text(load_default="float", validate=validate.OneOf(["float", "base64"]), allow_none=True)
    dimensions = Whole(1, 65_536, allow_none=True)
    user = Text(allow_none=True, validate=validate.Length(max=512))
