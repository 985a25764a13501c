"""Fields as JSON has them: a number is not a string, true is not 1, text is valid Unicode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from marshmallow import EXCLUDE, Schema, ValidationError, fields, pre_load, validate, validates_schema

#: Stop strings: OpenAI takes four; what each may hold bounds the work per token.
MAX_STOPS = 16
MAX_STOP_CHARS = 256


@dataclass(frozen=True)
class Picture:
    """An image as the caller gave it: a URL, or base64 alone. Nothing of it has been looked at."""

    text: str
    is_url: bool
    #: Where in its message it stands, for errors.
    place: str


class Text(fields.String):
    """A string without lone surrogates, which no tokenizer takes and UTF-8 cannot carry."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if not text.isascii():
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValidationError("Not valid Unicode: it holds half a surrogate pair.") from None
        return text


class Whole(fields.Integer):
    """A whole number, not true or false, not "1"."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> int:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return int(super()._deserialize(value, attr, data, **kwargs) or 0)


class Number(fields.Float):
    """A number within bounds, not "0.5", not NaN."""

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(allow_nan=False, validate=validate.Range(low, high), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return float(super()._deserialize(value, attr, data, **kwargs) or 0.0)


class Flag(fields.Boolean):
    """true or false, nothing else."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return value


class Stops(fields.Field[tuple[str, ...]]):
    """One stop string or a list of them. An empty one would end every answer at its first token."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        stops = [value] if isinstance(value, str) else value
        if not isinstance(stops, list) or not all(isinstance(s, str) for s in stops):
            raise ValidationError("Not a string or a list of strings.")
        if len(stops) > MAX_STOPS or any(len(s) > MAX_STOP_CHARS for s in stops):
            raise ValidationError(f"At most {MAX_STOPS} strings of at most {MAX_STOP_CHARS} characters.")
        if "" in stops:
            raise ValidationError("A stop string must not be empty.")
        return tuple(dict.fromkeys(stops))


class Some(fields.List[Any]):
    """A list of at most so many; a longer one is refused before any of it is looked at."""

    def __init__(self, inner: fields.Field[Any], most: int, **kwargs: Any) -> None:
        super().__init__(inner, **kwargs)
        self._most = most

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> list[Any]:
        if isinstance(value, list) and len(value) > self._most:
            raise ValidationError(f"At most {self._most} entries.")
        found: list[Any] = super()._deserialize(value, attr, data, **kwargs)
        return found


class Object(Schema):
    """An object of a request. null is as good as absent, as both APIs have it; unknown fields are ignored."""

    class Meta:
        unknown = EXCLUDE

    @pre_load
    def drop_nulls(self, data: Any, **kwargs: Any) -> Any:
        if not isinstance(data, dict):
            return data
        return {k: v for k, v in data.items() if v is not None or k in self.fields and self.fields[k].required}


class Body(Object):
    """A request body. `unsupported` names fields that are known but not served: other values than those are refused."""

    unsupported: Mapping[str, tuple[Any, ...]] = {}

    @validates_schema(pass_original=True, skip_on_field_errors=False)
    def refuse_unsupported(self, data: Any, original: Any, **kwargs: Any) -> None:
        if not isinstance(original, dict):
            return
        for name, harmless in self.unsupported.items():
            value = original.get(name)
            if value is not None and not any(type(value) is type(h) and value == h for h in harmless):
                raise ValidationError("Not supported by this server.", name)


MODEL: dict[str, Any] = {"required": True, "validate": validate.Length(1, 200)}
ROLES = ("system", "developer", "user", "assistant", "tool")
#: Highest seed, token id and token count that is let through; higher ones fit nowhere.
MAX_WHOLE = 2**63 - 1
MAX_TOKENS = 2**31 - 1
