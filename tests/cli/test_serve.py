"""`npu-proxy serve` as a whole, with the fake engine."""

import http.client
import signal
import time

import psutil
import pytest

from cli.serve import child, greeting, is_ready
from cli.settings import Settings


@pytest.fixture
def serving(start, data_dir, free_port):
    """A server that has said it is ready."""
    where = ("--port", str(free_port), "--data-dir", str(data_dir))
    process = start("-m", "cli", "serve", "--backend", "fake", *where)
    said: list[str] = []
    while not any("npu-proxy is ready on" in line for line in said):
        line = process.stdout.readline()
        assert line, f"ended before it was ready: {said}"
        said.append(line)
    return process


def test_ctrl_c_ends_everything_within_five_seconds(serving, wait_until, gone):
    family = psutil.Process(serving.pid).children(recursive=True)
    assert len(family) >= 4

    told_s = time.monotonic()
    serving.send_signal(signal.SIGINT)

    assert serving.wait(timeout=5) == 0
    assert time.monotonic() - told_s < 5
    wait_until(lambda: all(gone(process.pid) for process in family), "the end of all processes", deadline_s=1)


def test_an_answer_does_not_tell_what_software_made_it(serving, free_port):
    connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=10)
    connection.request("GET", "/health")
    with connection.getresponse() as response:
        assert response.headers["Server"] == "npu-proxy"
    connection.close()


def test_kill_9_leaves_no_process(serving, wait_until, gone):
    family = psutil.Process(serving.pid).children(recursive=True)

    serving.kill()
    serving.wait()

    wait_until(lambda: all(gone(process.pid) for process in family), "the end of all processes")


def test_a_server_is_ready_when_each_of_its_engines_is():
    kinds = frozenset({"llm", "embed"})
    both = {"llm": {"state": "ready"}, "embed": {"state": "ready"}}
    assert is_ready({"engines": both}, kinds)
    assert not is_ready({"engines": both | {"llm": {"state": "loading"}}}, kinds)
    assert not is_ready({"engines": {"llm": {"state": "ready"}}}, kinds)
    assert not is_ready({}, kinds)


def test_the_greeting_can_be_pasted():
    lines = greeting(Settings(port=99, llm_model="tiny:1b", embed_model="mini")).splitlines()
    curls = [line for line in lines if line.startswith("curl ")]
    assert [line.split("http://127.0.0.1:99")[1].split()[0] for line in curls] == [
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/embeddings",
    ]
    assert all("tiny:1b" in line for line in curls[:2])
    assert "curl -N" in curls[1] and '"stream": true' in curls[1]
    assert "mini" in curls[2]


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        (Settings(), False),
        (Settings(auth="keys"), True),
        (Settings(host="0.0.0.0"), True),
        (Settings(host="0.0.0.0", auth="off"), False),
        (Settings(host="::1"), False),
    ],
)
def test_the_greeting_sends_a_key_where_one_is_asked_for(settings, asked):
    lines = greeting(settings).splitlines()
    curls = [line for line in lines if line.startswith("curl ")]
    assert len(curls) == 3
    assert all(('-H "Authorization: Bearer $NPU_PROXY_KEY"' in line) == asked for line in curls)
    assert ("NPU_PROXY_KEY=$(npu-proxy keys create NAME)" in lines) == asked


def test_an_engine_that_is_off_is_not_in_the_greeting():
    assert "embeddings" not in greeting(Settings(embed_model=""))


def test_a_child_gets_the_settings_of_serve_and_not_the_file_they_came_from(monkeypatch):
    monkeypatch.setenv("REDIS_URL", "redis://elsewhere")
    monkeypatch.setenv("NPU_PROXY_CONFIG", "/some/file.toml")
    environment = child(Settings(port=7), "worker", "llm", gone_by=1).environment
    assert environment["NPU_PROXY_PORT"] == "7"
    assert environment["NPU_PROXY_REDIS_URL"] == ""
    assert environment["NPU_PROXY_CONFIG"] == "/dev/null"
