"""Ollama's request bodies. Wire: its `docs/api.md` and the types of the official `ollama` client."""

from __future__ import annotations

from marshmallow import EXCLUDE, Schema, fields, validate

from api.schemas.fields import MAX_TOKENS, MAX_WHOLE, MODEL, Body, Flag, Number, Stops, Text, Whole

ROLES = ("system", "user", "assistant", "tool")


class Options(Schema):
    """Model options; those that only tune llama.cpp (num_thread, mirostat, …) are left out."""

    num_predict = Whole(-2, MAX_TOKENS, allow_none=True)
    temperature = Number(0, 100, allow_none=True)
    top_p = Number(0, 1, allow_none=True)
    top_k = Whole(0, MAX_TOKENS, allow_none=True)
    min_p = Number(0, 1, allow_none=True)
    repeat_penalty = Number(0.01, 10, allow_none=True)
    presence_penalty = Number(-2, 2, allow_none=True)
    frequency_penalty = Number(-2, 2, allow_none=True)
    stop = Stops(allow_none=True)
    seed = Whole(-MAX_WHOLE, MAX_WHOLE, allow_none=True)

    class Meta:
        unknown = EXCLUDE


class Message(Body):
    unsupported = {"images": ([],)}

    role = Text(required=True, validate=validate.OneOf(ROLES))
    content = Text(load_default="", allow_none=True)


class Generation(Body):
    model = Text(**MODEL)
    stream = Flag(load_default=True, allow_none=True)
    options = fields.Nested(Options, allow_none=True)


class Chat(Generation):
    unsupported = {"tools": ([],), "format": ("",), "think": (False,), "logprobs": (False,), "top_logprobs": (0,)}

    messages = fields.List(fields.Nested(Message), load_default=list, allow_none=True)


class Generate(Generation):
    unsupported = {
        "images": ([],),
        "format": ("",),
        "suffix": ("",),
        "template": ("",),
        "think": (False,),
        "logprobs": (False,),
        "top_logprobs": (0,),
    }

    prompt = Text(load_default="", allow_none=True)
    system = Text(load_default="", allow_none=True)
    raw = Flag(load_default=False, allow_none=True)


class Inputs(fields.Field[tuple[str, ...]]):
    """A text or texts."""

    def _deserialize(self, value: object, attr: str | None, data: object, **kwargs: object) -> tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        return tuple(str(text) for text in fields.List(Text()).deserialize(texts) or ())


class Embed(Body):
    model = Text(**MODEL)
    input = Inputs(required=True)
    truncate = Flag(load_default=True, allow_none=True)
    dimensions = Whole(1, 65_536, allow_none=True)
