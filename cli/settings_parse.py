"""One value against the rule of its setting."""

import math
import re
from pathlib import Path

from .settings import Rule, Setting, Value, text_of

TRUE = frozenset({"true", "1", "yes", "on"})
FALSE = frozenset({"false", "0", "no", "off"})


class SettingsError(Exception):
    """The settings cannot be used; its text is the one line the user needs."""


def parse(setting: Setting, given: object, named: str) -> Value:
    """The value that `given`, text or a TOML value, stands for.

    Raises `SettingsError` that says `named` (the variable, option or key the user wrote), the value and what
    is allowed.
    """
    text = text_of(given) if isinstance(given, str | int | float | bool) else None
    value = None if text is None else _convert(setting, text.strip())
    if value is None or not _within(setting.rule, value):
        shown = given if isinstance(given, str) else repr(given) if text is None else text
        raise SettingsError(f"{named}={shown!s}: must be {allowed(setting)}")
    return value


def allowed(setting: Setting) -> str:
    """What a setting may be, in words that follow "must be"."""
    rule = setting.rule
    if rule.choices:
        return "one of " + ", ".join(rule.choices)
    if setting.type is bool:
        return "true or false"
    if setting.type in (int, float):
        noun = "a whole number" if setting.type is int else "a number"
        unit = f" {rule.unit}" if rule.unit else ""
        return f"{noun} from {rule.minimum or 0:.12g} to {rule.maximum:.12g}{unit}"
    return rule.allowed or "the path of a folder"


def _convert(setting: Setting, text: str) -> Value | None:
    if setting.type is bool:
        return True if text.lower() in TRUE else False if text.lower() in FALSE else None
    if setting.type is Path:
        return Path(text).expanduser().absolute() if text else None
    try:
        return setting.type(text)
    except ValueError:
        return None


def _within(rule: Rule, value: Value) -> bool:
    if isinstance(value, int | float) and not isinstance(value, bool):
        low = -math.inf if rule.minimum is None else rule.minimum
        high = math.inf if rule.maximum is None else rule.maximum
        return low <= value <= high
    if isinstance(value, str):
        return (not rule.choices or value in rule.choices) and (
            not rule.pattern or re.fullmatch(rule.pattern, value) is not None
        )
    return True
