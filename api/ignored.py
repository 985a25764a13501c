"""Which fields of a body nobody here reads, for the header that says so."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from marshmallow import Schema, fields

#: So many are named; a client that sends more knows little of what it sends.
MOST = 20
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


def ignored(schema: Schema, body: Mapping[str, Any]) -> list[str]:
    """Names of what was given, not as null, and changes nothing; Ollama's options as `options.num_ctx`. What is no name
    as fields have it is left out."""
    return list(islice(_ignored(schema, body), MOST))


def _ignored(schema: Schema, body: Mapping[str, Any], before: str = "") -> Iterator[str]:
    refused = getattr(schema, "unsupported", {})
    for name, value in body.items():
        if value is not None and name not in schema.fields and name not in refused and _NAME.fullmatch(name):
            yield before + name
    options = schema.fields.get("options")
    if isinstance(options, fields.Nested) and isinstance(given := body.get("options"), dict):
        yield from _ignored(options.schema, given, "options.")
