"""Tools, and how a request says which of them the answer may or must call."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate

from api.schemas.fields import Flag, Object, Some, Text
from api.schemas.structured import Schema, check_json

MAX_TOOLS = 128
MAX_TOOLS_BYTES = 262_144
NAME = validate.Regexp(r"[A-Za-z0-9_.-]{1,64}\Z", error="Not a name of up to 64 letters, digits, _, . and -.")


class Function(Object):
    name = Text(required=True, validate=NAME)
    description = Text()
    parameters = Schema()
    strict = Flag()


class Tool(Object):
    type = Text(load_default="function", validate=validate.OneOf(["function"]))
    function = fields.Nested(Function, required=True)


class ToolList(Some):
    """Tools of different names."""

    def __init__(self) -> None:
        super().__init__(fields.Nested(Tool), MAX_TOOLS)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list):
            check_json(value, MAX_TOOLS_BYTES)
        tools = super()._deserialize(value, attr, data, **kwargs)
        names = [tool["function"]["name"] for tool in tools]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ValidationError(f"Two tools have the name {twice}.")
        return tools


class ToolChoice(fields.Field[Any]):
    """`none`, `auto`, `required`, or one function by its name."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> Any:
        match value:
            case "none" | "auto" | "required":
                return value
            case {"type": "function", "function": {"name": str()}}:
                return value
        raise ValidationError("Not none, auto, required, or a function with its name.")


class Arguments(fields.Field[dict[str, Any]]):
    """The arguments of a call as Ollama has them: an object."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise ValidationError("Not an object.")
        check_json(value, MAX_TOOLS_BYTES)
        return value


def check_choice(data: Any) -> None:
    """Refuse a choice that no tool fulfils, and a form of the answer beside tools."""
    names = [tool["function"]["name"] for tool in data.get("tools") or ()]
    match data.get("tool_choice"):
        case "required" if not names:
            raise ValidationError("There are no tools.", "tool_choice")
        case {"function": {"name": name}} if name not in names:
            raise ValidationError(f"There is no tool {name[:64]!r}.", "tool_choice")
    form = data.get("response_format", {}).get("type", "text") != "text" or data.get("structured_outputs")
    if names and data.get("tool_choice") != "none" and (form or data.get("format")):
        raise ValidationError("Not together with a form of the answer.", "tools")
