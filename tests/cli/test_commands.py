"""The `npu-proxy` command as a person meets it."""

import http.server
import json
import subprocess
import sys
import threading
import time

import click
import pytest
from click.testing import CliRunner

from cli import health, main
from cli.settings import Settings, table


def run(*arguments, **environment):
    return CliRunner().invoke(main.main, arguments, env=environment)


@pytest.fixture
def server(request):
    """Something that answers GET /health with a document."""
    document: dict = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/health" else 404)
            self.end_headers()
            self.wfile.write(json.dumps(document).encode())

        def log_message(self, *_):
            pass

    listener = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield document, str(listener.server_port)
    listener.shutdown()
    listener.server_close()


def test_help_lists_every_command_within_the_blink_of_an_eye(root):
    begun_s = time.monotonic()
    shown = subprocess.check_output([sys.executable, "-m", "cli", "--help"], cwd=root, text=True)
    # Measured 0.08 s; a heavy import at the top of any command takes more than this.
    assert time.monotonic() - begun_s < 1.0
    for name in main.main.commands:
        assert f"\n  {name} " in shown


def test_help_imports_nothing_heavy(root):
    program = "import sys, cli.main; print(*sys.modules)"
    shown = subprocess.check_output([sys.executable, "-c", program], cwd=root, text=True)
    loaded = {name.split(".")[0] for name in shown.split()}
    assert not loaded & {"openvino", "openvino_genai", "flask", "gunicorn", "rq", "redis", "numpy", "tqdm"}


def command_lines(group=main.main):
    """The words of every command, those of groups included."""
    for name, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from ((name, *words) for words in command_lines(command))
        else:
            yield (name,)


@pytest.mark.parametrize("words", list(command_lines()), ids=" ".join)
def test_every_command_explains_itself(words):
    shown = run(*words, "--help").output
    assert "Usage:" in shown
    assert "--config FILE" in shown


def test_serve_has_an_option_for_every_setting():
    shown = run("serve", "--help").output
    for row in table():
        assert row.option in shown
        assert row.variable in shown.replace("\n", "").replace(" ", "")


def test_a_wrong_setting_ends_a_command_with_one_line_and_code_2():
    result = run("serve", NPU_PROXY_PORT="high")
    assert result.exit_code == 2
    assert result.stderr == "Error: NPU_PROXY_PORT=high: must be a whole number from 1 to 65535\n"


def test_settings_shows_what_is_in_force():
    result = run("settings", "--port", "7", NPU_PROXY_LLM_SLOTS="2")
    lines = [line.split(maxsplit=2) for line in result.output.splitlines()]
    assert ["port", "7", "option --port"] in lines
    assert ["llm_slots", "2", "variable NPU_PROXY_LLM_SLOTS"] in lines


def test_serve_without_any_engine_is_refused():
    result = run("serve", "--llm-model", "", "--embed-model", "")
    assert (result.exit_code, result.stderr) == (
        2,
        "Error: no engine has a model (llm_model, embed_model, …): there is nothing to serve\n",
    )


def test_the_process_that_has_the_port_is_named(server, data_dir):
    _, port = server
    result = run("serve", "--backend", "fake", "--port", port, "--data-dir", str(data_dir))
    assert result.exit_code == 1
    assert f"port {port} on 127.0.0.1 is taken by " in result.stderr
    assert "set NPU_PROXY_PORT" in result.stderr


def test_a_host_that_is_not_ours_is_told():
    result = run("serve", "--backend", "fake", "--host", "192.0.2.1")
    assert result.exit_code == 1
    assert "cannot listen on 192.0.2.1" in result.stderr


@pytest.mark.parametrize(
    ("document", "arguments", "code"),
    [
        ({"status": "ok"}, [], 0),
        ({"status": "loading"}, [], 1),
        ({"status": "loading"}, ["--alive"], 0),
        ({"status": "degraded", "engines": {"llm": {"state": "ready"}}}, ["--engine", "llm"], 0),
        ({"status": "degraded", "engines": {"llm": {"state": "ready"}}}, ["--engine", "embed"], 1),
        ({"status": "ok", "engines": "nonsense"}, ["--engine", "llm"], 1),
    ],
)
def test_health_ends_with_0_when_ready_and_1_when_not(server, document, arguments, code):
    served, port = server
    served.update(document)
    assert run("health", "--port", port, *arguments).exit_code == code


def test_health_of_nobody_is_1_and_says_where_it_asked(free_port):
    result = run("health", "--port", str(free_port))
    assert (result.exit_code, result.stderr) == (1, f"Error: no answer from http://127.0.0.1:{free_port}\n")


@pytest.mark.parametrize(
    ("host", "url"),
    [("0.0.0.0", "http://127.0.0.1:80"), ("::", "http://[::1]:80"), ("box.local", "http://box.local:80")],
)
def test_a_server_that_listens_everywhere_is_called_here(host, url):
    assert health.address(Settings(host=host, port=80)) == url


def test_models_lists_nothing_in_an_empty_store(data_dir):
    result = run("models", "--data-dir", str(data_dir))
    assert (result.exit_code, result.output) == (0, "")


def test_removing_a_model_that_is_not_there_is_told(data_dir):
    result = run("rm", "nothing", "--data-dir", str(data_dir))
    assert result.exit_code == 1
    assert "there is no model 'nothing'" in result.stderr


def test_one_name_for_two_models_is_refused(data_dir):
    result = run("pull", "a", "b", "--name", "c", "--data-dir", str(data_dir))
    assert result.exit_code == 2
    assert "--name needs exactly one NAME" in result.stderr
