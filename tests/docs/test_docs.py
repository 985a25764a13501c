"""The docs against the files: links lead somewhere, paths exist, numbers and messages are those of the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from jobs import keys, record

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
PACKAGES = ("api", "cli", "engines", "jobs", "scheduler")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
OURS = sorted([*MODULES, *(ROOT / "bench").rglob("*.py")])
LONGEST_MODULE_LINES = 400

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
#: What in backticks is a path of the repository: its first folder is one of ours.
REPO_PATH = re.compile(rf"(?:{'|'.join(PACKAGES)}|\.ci|bench|compose|docs|tests)/[\w./-]*")
CONSTANT_ROW = re.compile(r"^\| `([A-Z_]+)` \| ([\d.]+)[^|]* \| `([\w./]+)` \|", re.MULTILINE)

page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """A page without its code blocks."""
    return re.sub(r"^( *)```.*?^\1```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)


def in_backticks(path: Path) -> list[str]:
    return re.findall(r"`([^`\n]+)`", prose(path))


def anchors(path: Path) -> set[str]:
    """The anchors that hosts of Markdown make of headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def section(path: Path, heading: str) -> str:
    """What stands under a heading of second order."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", path.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert found, f"{name_of(path)} has no section {heading}"
    return found[1]


@page
def test_every_link_leads_to_a_file_and_a_heading(path: Path) -> None:
    for link in LINK.findall(prose(path)):
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), f"{link} leads to no file"
        assert not anchor or anchor in anchors(target), f"{link} leads to no heading"


@page
def test_every_path_that_is_named_exists(path: Path) -> None:
    named = [text for text in in_backticks(path) if REPO_PATH.fullmatch(text)]
    missing = [text for text in named if not (ROOT / text).exists()]
    assert not missing


@page
def test_no_page_is_there_that_nobody_finds(path: Path) -> None:
    readme = ROOT / "README.md"
    found = path == readme or name_of(path) in LINK.findall(readme.read_text())
    assert found, f"README.md has no link to {name_of(path)}"


def test_the_readme_names_the_two_commands_of_a_developer() -> None:
    lines = [line.split("#")[0].strip() for line in (ROOT / "README.md").read_text().splitlines()]
    assert "make serve" in lines
    assert "make test" in lines


def test_the_makefile_has_every_target_that_the_docs_name() -> None:
    pages = "\n".join(path.read_text() for path in PAGES)
    named = set(re.findall(r"(?:^|`)make ([a-z]+)\b", pages, flags=re.MULTILINE))
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert named <= targets


# --- docs/design.md


DESIGN = ROOT / "docs" / "design.md"


def constant(path: Path, name: str) -> float:
    """A number that a module assigns, by reading it: importing would load OpenVINO."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == name for t in node.targets):
            return number(node.value)
    raise AssertionError(f"{name_of(path)} assigns no {name}")


def number(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as value):
            return float(value)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return number(left) * number(right)
    raise AssertionError(f"not a plain number: {ast.dump(node)}")


def test_the_table_of_numbers_is_that_of_the_code() -> None:
    rows = CONSTANT_ROW.findall(section(DESIGN, "Numbers"))
    assert rows
    wrong = [(name, said) for name, said, file in rows if constant(ROOT / file, name) != float(said)]
    assert not wrong


def test_every_script_is_described() -> None:
    described = set(re.findall(r"^\| `(\w+\.lua)` \|", section(DESIGN, "Scripts"), flags=re.MULTILINE))
    assert described == {path.name for path in (ROOT / "jobs" / "scripts").glob("*.lua")}


def test_every_redis_key_is_described_as_it_is_made() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| `([\w:]+)` \|", section(DESIGN, "Redis keys"), flags=re.MULTILINE))
    # `user_key` makes a part of keys, not one.
    makers = {name: make for name, make in inspect.getmembers(keys, inspect.isfunction) if name != "user_key"}
    assert described.keys() == makers.keys()
    for name, make in makers.items():
        made = make(*("X" for _ in inspect.signature(make).parameters))
        pattern = re.sub(r"\b(?:ID|KIND|NAME|HASH)\b", r"(X|[0-9a-f]+)", described[name])
        assert re.fullmatch(pattern, made), f"{name} makes {made}, not {described[name]}"


@page
def test_every_test_that_is_named_exists(path: Path) -> None:
    rows = [line for line in path.read_text().splitlines() if "`test_" in line]
    for row in rows:
        files = [ROOT / text for text in re.findall(r"`(tests/[\w/]+\.py)`", row)]
        code = "\n".join(file.read_text() for file in files or sorted((ROOT / "tests").rglob("*.py")))
        assert not [name for name in re.findall(r"`(test_\w+)`", row) if f"def {name}(" not in code]


def test_every_state_of_a_job_is_in_its_picture() -> None:
    picture = section(DESIGN, "A job's life").split("```")[1]
    assert not [state for state in (*record.FINAL, "queued", "in_progress") if state not in picture]


# --- docs/running.md


RUNNING = ROOT / "docs" / "running.md"


@cache
def texts() -> tuple[str, ...]:
    """Every text in the code, with … in place of what is put into it."""
    return tuple(text for module in MODULES for text in literals(ast.parse(module.read_text())))


def literals(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
            yield "".join(str(part) for part in parts)


def pattern_of(text: str) -> re.Pattern[str]:
    """Matches the text with anything in place of each …"""
    return re.compile(".*".join(re.escape(part) for part in text.split("…")))


def is_said(message: str) -> bool:
    """Whether the code says it: as written there, or as part of it, or with words put into it."""
    wanted = pattern_of(message.rstrip("…"))
    whole = (pattern_of(text) for text in texts() if len(text.replace("…", "")) >= 8)
    return any(wanted.search(text) for text in texts()) or any(text.fullmatch(message) for text in whole)


def test_every_message_that_is_explained_is_one_that_the_code_says() -> None:
    rows = re.findall(r"^\| `([^`]+)`[^|]*\|", section(RUNNING, "When something is wrong"), flags=re.MULTILINE)
    assert len(rows) > 20
    assert not [message for message in rows if not is_said(message)]


# --- the code itself


def test_every_module_says_what_it_is() -> None:
    assert not [name_of(path) for path in OURS if not ast.get_docstring(ast.parse(path.read_text()))]


def test_no_module_is_too_long() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in OURS}
    assert not {name: lines for name, lines in lengths.items() if lines >= LONGEST_MODULE_LINES}
