"""Files outside the packages name what exists: Procfile, compose, pyproject, the page of dependencies."""

import re
import tomllib

import click
import pytest
import yaml

from cli.main import main
from cli.settings import CONFIG_VARIABLE, table


@pytest.fixture
def pyproject(root):
    return tomllib.loads((root / "pyproject.toml").read_text())


@pytest.fixture(params=["compose.yaml", "npu.yaml"])
def compose(root, request):
    return yaml.safe_load((root / "compose" / request.param).read_text())


def dependencies(pyproject):
    """The names of all packages asked for, as the index writes them."""
    asked = pyproject["project"]["dependencies"] + pyproject["dependency-groups"]["dev"]
    return {re.split(r"[^\w-]", dependency)[0] for dependency in asked}


def check_command(words):
    """Parse a command line of npu-proxy without running it; raises click's errors."""
    name, *arguments = words
    command = main.commands[name]
    # Pull's names come from the environment there; any name will do here.
    command.make_context(name, [re.sub(r"^\$\{.*:-(.*)\}$", r"\1", word) for word in arguments])


def test_a_wrong_command_would_be_noticed():
    with pytest.raises(KeyError):
        check_command(["wrok"])
    with pytest.raises(click.UsageError):
        check_command(["worker", "painter"])


def test_each_line_of_the_procfile_is_a_command(root):
    lines = (root / "Procfile").read_text().splitlines()
    assert [line.split(":")[0] for line in lines] == ["redis", "api", "llm", "embed"]
    for line in lines:
        program, *words = line.split(":", 1)[1].split()
        assert program == "npu-proxy"
        check_command(words)


def test_compose_runs_and_checks_with_commands_that_exist(compose):
    for service in compose["services"].values():
        if "build" in service:
            check_command(service["command"])
        test = service.get("healthcheck", {}).get("test", [])
        if test[1:2] == ["npu-proxy"]:
            check_command(test[2:])


def test_compose_sets_only_variables_that_exist(compose):
    known = {row.variable for row in table()} | {CONFIG_VARIABLE}
    for service in compose["services"].values():
        assert set(service.get("environment", {})) <= known


def test_compose_mounts_only_volumes_it_declares(compose):
    services = compose["services"].values()
    used = {mount.split(":")[0] for service in services for mount in service.get("volumes", [])}
    assert used == set(compose.get("volumes", {}))


def test_the_override_is_for_services_of_compose(root):
    names = [
        set(yaml.safe_load((root / "compose" / file).read_text())["services"])
        for file in ("compose.yaml", "npu.yaml")
    ]
    assert names[1] <= names[0]


def test_the_image_copies_and_the_build_includes_every_package(root, pyproject):
    packages = {path.parent.name for path in root.glob("*/__init__.py")} - {"tests", "bench"}
    patterns = pyproject["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {pattern.rstrip("*") for pattern in patterns} == packages
    dockerfile = (root / "compose/Dockerfile").read_text()
    assert set(re.findall(r"^COPY (\w+) \1$", dockerfile, re.MULTILINE)) == packages
    ignored = (root / "compose/Dockerfile.dockerignore").read_text().splitlines()
    assert packages <= {line.removeprefix("!") for line in ignored}


def test_every_folder_with_modules_is_a_package(root, pyproject):
    for pattern in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]:
        for module in (root / pattern.rstrip("*")).rglob("*.py"):
            assert (module.parent / "__init__.py").exists(), f"{module.parent} would not be installed"


def test_every_file_a_package_reads_is_installed(root, pyproject):
    kinds = {pattern.lstrip("*") for pattern in pyproject["tool"]["setuptools"]["package-data"]["*"]}
    for pattern in pyproject["tool"]["setuptools"]["packages"]["find"]["include"]:
        for file in (root / pattern.rstrip("*")).rglob("*.*"):
            if file.is_file() and file.suffix not in (".py", ".pyc", ".md"):
                assert file.suffix in kinds, f"{file} would not be installed"


def test_each_dependency_has_its_reason_on_the_page(root, pyproject):
    page = (root / "docs/dependencies.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    explained = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    assert explained == dependencies(pyproject)


def test_the_lock_has_each_dependency_with_hashes_and_no_index(root, pyproject):
    lock = (root / "requirements.lock").read_text()
    for name in dependencies(pyproject):
        line = rf"^{name.replace('_', '-')}==\S+ .*\\\n    --hash=sha256:"
        assert re.search(line, lock, re.MULTILINE), name
    assert "://" not in lock
    assert not re.search(r"^--(index|extra|find)", lock, re.MULTILINE)
    assert not re.search(r"^torch==", lock, re.MULTILINE)


def test_this_version_has_its_entry_in_the_changelog(root, pyproject):
    assert f"## [{pyproject['project']['version']}]" in (root / "CHANGELOG.md").read_text()
