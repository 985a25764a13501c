"""Names of models: what is allowed, when two are one, and the folder a name stands for."""

import re

from engines.errors import BadModelName

#: Characters in a name. Two of its folder names and a suffix must fit a file system's 255 bytes.
MAX_LENGTH = 120

# Hugging Face's own rule for a repo id, which Ollama's names fulfil too: letters, digits, `-`, `_`, `.`; no
# `--` or `..`; no `-` or `.` at either end.
_WORD = r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?"
_NAME = re.compile(rf"(?P<path>{_WORD}(?:/{_WORD})*)(?::(?P<tag>{_WORD}))?")


def normalise(name: str) -> str:
    """The one spelling of a name: `x:latest` is `x`; case is kept but never distinguishes two models.

    Raises BadModelName for whatever is not on the allow-list, before any file is looked at.
    """
    match = _NAME.fullmatch(name) if len(name) <= MAX_LENGTH else None
    if match is None or ".." in name or "--" in name:
        shown = name if len(name) <= MAX_LENGTH else name[:MAX_LENGTH] + "…"
        raise BadModelName(
            f"{shown!r} is not a model name: use letters, digits, '.', '_' and '-', optionally as OWNER/NAME "
            f"and with a :TAG, at most {MAX_LENGTH} characters"
        )
    path, tag = match["path"], match["tag"]
    return path if tag is None or tag.lower() == "latest" else f"{path}:{tag}"


def slug(name: str) -> str:
    """The folder of a name inside the store, itself a single plain path component.

    One to one: `--` and `@` occur in no name. Lower case, so that no two models share a folder only where the
    file system ignores case.
    """
    return normalise(name).lower().replace("/", "--").replace(":", "@")
