"""docs/api.md names what there is, and its examples work."""

import re
import subprocess
from pathlib import Path

import pytest
from flask import Flask

from api.errors import register
from api.routes import health, jobs, ollama, openai
from tests.api.test_refused import UNSUPPORTED

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "api.md").read_text()


def section(name: str) -> str:
    """The text under a heading."""
    return PAGE.split(f"\n## {name}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def routes() -> list[tuple[str, str]]:
    """Every method and path of the app."""
    app = Flask("docs", static_folder=None)
    register(app)
    for module in (openai, ollama, jobs, health):
        app.register_blueprint(module.blueprint)
    found = [
        (method, re.sub(r"<\w+:", "<", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    ]
    return [*found, ("GET", "/metrics")]


def test_every_route_is_named_and_no_other(routes):
    named = re.findall(r"`(GET|POST|DELETE|PUT|PATCH) (/[^`]*)`", section("Endpoints"))
    assert sorted(named) == sorted(routes)


@pytest.mark.parametrize("path", UNSUPPORTED)
def test_every_field_that_is_refused_is_named(path):
    [entry] = [e for e in section("Refused by name").split("\n- ") if e.startswith(f"`{path}`")]
    for name in UNSUPPORTED[path]:
        assert f"`{name}`" in entry


def test_every_header_is_named():
    source = (ROOT / "api" / "headers.py").read_text()
    for name in set(re.findall(r'"(X-(?:NPU-Proxy|Request)-[\w-]+)"', source)):
        assert f"`{name}`" in section("Headers")


def test_every_code_of_the_table_of_errors_is_named():
    source = "".join(
        (ROOT / "api" / name).read_text() for name in ("errors.py", "serve.py", "guard.py", "routes/jobs.py")
    )
    codes = set(re.findall(r'code="(\w+)"', source)) | set(re.findall(r'_error", "(\w+)"', source))
    codes |= set(re.findall(r'"((?:host|origin)_not_allowed|job_not_found|invalid_json|bad_request)"', source))
    assert {"invalid_value", "unavailable", "internal_error", "job_not_found"} <= codes
    for code in codes:
        assert f"`{code}`" in section("Errors"), code


def test_the_examples_work(server):
    examples = "\n".join(re.findall(r"^```sh\n(.*?)^```", PAGE, flags=re.DOTALL | re.MULTILINE))
    script = examples.replace("http://127.0.0.1:11435", server.url).replace("curl -s", "curl --noproxy '*' -fsS")
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    assert '"status":"completed"' in done.stdout
    assert done.stdout.count("event: done") == 1
