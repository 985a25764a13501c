"""docs/parameters.md against the schemas, and against what the official clients can send."""

from __future__ import annotations

import re
from pathlib import Path

import ollama._types as ollama_types
import pytest
from marshmallow import Schema
from openai.types.chat.completion_create_params import CompletionCreateParamsBase as ChatParams
from openai.types.completion_create_params import CompletionCreateParamsBase as CompletionParams

from api.schemas import ollama, openai

PAGE = (Path(__file__).parents[2] / "docs" / "parameters.md").read_text()


def table(first: str, column: int) -> dict[str, str]:
    """What a column of a table says of each name; the table is told by its section or its first heading."""
    text = PAGE.split(f"\n{first}")[1]
    rows = re.search(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert rows
    cells = [[cell.strip() for cell in row.strip("|\n").split("|")] for row in rows[0].splitlines() if "`" in row]
    return {row[0].strip("`"): row[column] for row in cells}


TABLES: list[tuple[str, dict[str, str], Schema, set[str]]] = [
    ("openai chat", table("## OpenAI", 1), openai.ChatCompletion(), set(ChatParams.__annotations__)),
    ("openai completions", table("## OpenAI", 2), openai.Completion(), set(CompletionParams.__annotations__)),
    ("ollama chat", table("## Ollama", 1), ollama.Chat(), set(ollama_types.ChatRequest.model_fields)),
    ("ollama generate", table("## Ollama", 2), ollama.Generate(), set(ollama_types.GenerateRequest.model_fields)),
    ("ollama options", table("| option |", 1), ollama.Options(), set(ollama_types.Options.model_fields)),
]


@pytest.mark.parametrize(("name", "said", "schema", "sent"), TABLES, ids=[each[0] for each in TABLES])
def test_the_page_says_what_the_schema_does(name: str, said: dict[str, str], schema: Schema, sent: set[str]) -> None:
    refused = set(getattr(schema, "unsupported", {}))
    assert set(said.values()) <= {"yes", "refused", "ignored", "–"}
    assert {n for n, what in said.items() if what == "yes"} == set(schema.fields)
    assert {n for n, what in said.items() if what == "refused"} == refused
    assert not {n for n, what in said.items() if what == "ignored"} & (set(schema.fields) | refused)


@pytest.mark.parametrize(("name", "said", "schema", "sent"), TABLES, ids=[each[0] for each in TABLES])
def test_the_page_knows_whatever_the_client_can_send(
    name: str, said: dict[str, str], schema: Schema, sent: set[str]
) -> None:
    assert sent <= {n for n, what in said.items() if what != "–"}
