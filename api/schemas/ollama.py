"""Ollama's request bodies. Wire: its `docs/api.md` and the types of the official `ollama` client."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate, validates_schema

from api.schemas.fields import MAX_TOKENS, MAX_WHOLE, MODEL, Body, Flag, Number, Object, Some, Stops, Text, Whole
from api.schemas.structured import Format
from api.schemas.tools import Arguments, ToolList, check_choice

ROLES = ("system", "user", "assistant", "tool")


class Options(Object):
    """Model options; those that only tune llama.cpp (num_thread, mirostat, …) are left out."""

    num_predict = Whole(-2, MAX_TOKENS)
    temperature = Number(0, 100)
    top_p = Number(0, 1)
    top_k = Whole(0, MAX_TOKENS)
    min_p = Number(0, 1)
    repeat_penalty = Number(0.01, 10)
    presence_penalty = Number(-2, 2)
    frequency_penalty = Number(-2, 2)
    stop = Stops()
    seed = Whole(-MAX_WHOLE, MAX_WHOLE)


#: How many images one request may hold is a setting, checked in `api.images`.
IMAGES: dict[str, Any] = {"load_default": list}


class FunctionCall(Object):
    name = Text(required=True, validate=validate.Length(1, 200))
    arguments = Arguments(load_default=dict)


class ToolCall(Object):
    function = fields.Nested(FunctionCall, required=True)


class Think(fields.Field[bool | str]):
    """true, false, or a level."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> bool | str:
        if not isinstance(value, bool) and value not in ("low", "medium", "high"):
            raise ValidationError("Not true, false, low, medium or high.")
        return value


class Message(Body):
    role = Text(required=True, validate=validate.OneOf(ROLES))
    content = Text(load_default="")
    images = Some(Text(), 1024, **IMAGES)
    thinking = Text()
    tool_calls = Some(fields.Nested(ToolCall), 128)
    tool_name = Text(validate=validate.Length(max=200))


class Generation(Body):
    model = Text(**MODEL)
    stream = Flag(load_default=True)
    options = fields.Nested(Options)
    format = Format()
    think = Think()


class Chat(Generation):
    unsupported = {"logprobs": (False,), "top_logprobs": (0,)}

    messages = fields.List(fields.Nested(Message), load_default=list)
    tools = ToolList()

    @validates_schema
    def check_tools(self, data: Any, **kwargs: Any) -> None:
        check_choice(data)


class Generate(Generation):
    unsupported = {
        "suffix": ("",),
        "template": ("",),
        "logprobs": (False,),
        "top_logprobs": (0,),
    }

    prompt = Text(load_default="")
    system = Text(load_default="")
    raw = Flag(load_default=False)
    images = Some(Text(), 1024, **IMAGES)


class Inputs(fields.Field[tuple[str, ...]]):
    """A text or texts. An empty one is none at all, for Ollama."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> tuple[str, ...]:
        texts = [value] if value and isinstance(value, str) else value or []
        return tuple(str(text) for text in fields.List(Text()).deserialize(texts) or ())


class Embed(Body):
    model = Text(**MODEL)
    input = Inputs(required=True)
    truncate = Flag(load_default=True)
    dimensions = Whole(1, 65_536)
