"""`npu-proxy keys`, and the refusal to let others in while nobody has a key."""

import json
import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from click.testing import CliRunner

from cli import main, redis_server
from cli.errors import Failure
from cli.redis_server import answers, check_unused, running
from cli.settings import Settings
from jobs.connection import connect
from jobs.users import UserStore, Wishes
from scheduler.limits import UserLimits


@pytest.fixture
def keys(valkey):
    """Run `npu-proxy keys ARGUMENTS...` on a Redis of one's own."""

    def run(*arguments):
        return CliRunner().invoke(main.main, ["keys", *arguments], env={"REDIS_URL": valkey.url})

    return run


@pytest.fixture
def users(redis):
    return UserStore(redis)


@pytest.fixture
def embedded(data_dir):
    """The settings of an embedded Redis; afterwards none runs on them."""
    settings = Settings(data_dir=data_dir)
    yield settings
    check_unused(settings)


def connects(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def servers(data_dir):
    """The Redis processes on a data folder."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        if str(data_dir / "redis" / "redis.sock") in " ".join(process.info["cmdline"] or []):
            found.append(process.pid)
    return found


def test_create_prints_the_key_alone_and_explains_elsewhere(keys, users):
    result = keys("create", "alice")
    assert result.exit_code == 0
    assert users.find(result.stdout.removesuffix("\n")).name == "alice"
    assert result.stderr == "The key of alice; it is not kept and cannot be shown again:\n"


def test_create_sets_what_is_given_and_leaves_the_rest(keys, users):
    options = ["--weight", "2.5", "--rpm", "60", "--tpm", "9000", "--max-queued", "5", "--max-running", "2", "--admin"]
    key = keys("create", "alice", *options).stdout.strip()
    found = users.find(key)
    assert (found.weight, found.limits, found.admin) == (2.5, UserLimits(60, 9000, 5, 2), True)
    keys("create", "alice", "--rpm", "0", "--no-admin")
    found = users.find(key)
    assert (found.weight, found.limits, found.admin) == (2.5, UserLimits(0, 9000, 5, 2), False)


@pytest.mark.parametrize("weight", ["0", "-1", "nan", "inf", "-inf", "1001", "much", ""])
def test_a_weight_that_is_none_is_refused_with_code_2(keys, users, weight):
    result = keys("create", "alice", "--weight", weight)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "must be a number from 0.001 to 1000" in result.stderr or "is not a valid float" in result.stderr
    assert users.list() == []


@pytest.mark.parametrize("option", ["--rpm", "--tpm", "--max-queued", "--max-running"])
@pytest.mark.parametrize("limit", ["-1", "1.5", "x"])
def test_a_limit_that_is_none_is_refused_with_code_2(keys, users, option, limit):
    result = keys("create", "alice", option, limit)
    assert (result.exit_code, result.stdout) == (2, "")
    assert users.list() == []


def test_a_name_that_cannot_be_read_is_refused_with_code_2(keys):
    result = keys("create", "a\nb")
    assert result.exit_code == 2
    assert "a name has 1 to 64 printable characters" in result.stderr


def test_list_shows_users_and_ids_and_no_secret(keys, users):
    key = users.create("alice", Wishes(weight=2, requests_per_minute=9))
    admins = users.create("root", Wishes(admin=True))
    users.revoke("root")
    shown = keys("list").stdout
    first, second, third, fourth = shown.splitlines()
    assert first == "alice  weight 2  rpm 9"
    assert second.split()[0] == key.split("_")[1]
    assert (third, fourth) == ("root  weight 1  admin", "  no key")
    for made in (key, admins):
        assert made.split("_")[2] not in shown


def test_list_as_json_has_it_all(keys, users):
    key = users.create("alice", Wishes(weight=2, max_queued=3))
    [shown] = json.loads(keys("list", "--json").stdout)
    assert shown == {
        "name": "alice",
        "weight": 2.0,
        "admin": False,
        "created_at": shown["created_at"],
        "limits": {"requests_per_minute": 0, "tokens_per_minute": 0, "max_queued": 3, "max_running": 0},
        "keys": [{"id": key.split("_")[1], "created_at": shown["created_at"]}],
    }
    users.revoke("alice")
    assert json.loads(keys("list", "--json").stdout)[0]["keys"] == []


def test_revoke_takes_all_keys_or_one(keys, users):
    first, second, third = (users.create("alice") for _ in range(3))
    assert keys("revoke", "alice", "--key", first.split("_")[1]).exit_code == 0
    assert [users.find(key) is None for key in (first, second, third)] == [True, False, False]
    assert keys("revoke", "alice").exit_code == 0
    assert not users.has_keys()
    again = keys("revoke", "alice")
    assert (again.exit_code, again.stderr) == (
        1,
        "Error: alice has no key (any more): `npu-proxy keys list` shows who has which\n",
    )


def test_a_key_that_the_user_does_not_have_is_told(keys, users):
    users.create("alice")
    result = keys("revoke", "alice", "--key", "*")
    assert result.exit_code == 1
    assert "alice has no key '*'" in result.stderr
    assert users.has_keys()


def test_rotate_prints_the_only_key_that_is_left(keys, users):
    old = users.create("alice")
    result = keys("rotate", "alice")
    assert users.find(old) is None
    assert users.find(result.stdout.strip()).name == "alice"


@pytest.mark.parametrize("command", ["revoke", "rotate"])
def test_a_user_nobody_made_is_told_with_what_to_do(keys, command):
    result = keys(command, "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: there is no user 'nobody': `npu-proxy keys list` names them all\n"


def test_a_redis_that_does_not_answer_is_told(free_port):
    result = CliRunner().invoke(main.main, ["keys", "list", "--redis-url", f"redis://127.0.0.1:{free_port}"])
    assert result.exit_code == 1
    assert "the Redis of NPU_PROXY_REDIS_URL does not answer" in result.stderr


# --- with the embedded Redis


def test_without_a_server_one_is_started_for_the_moment_and_keeps_what_was_written(embedded):
    with running(embedded) as url, connect(url) as redis:
        key = UserStore(redis).create("alice")
        assert len(servers(embedded.data_dir)) == 1
    assert servers(embedded.data_dir) == []
    with running(embedded) as url, connect(url) as redis:
        assert UserStore(redis).find(key)
    assert servers(embedded.data_dir) == []


def test_a_server_that_runs_is_used_and_goes_on(start, wait_until, data_dir):
    settings = Settings(data_dir=data_dir)
    start("-m", "cli", "redis", NPU_PROXY_DATA_DIR=str(data_dir))
    wait_until(lambda: answers(settings), "the server")
    before = servers(data_dir)
    with running(settings):
        assert servers(data_dir) == before
    assert answers(settings)


def test_an_error_inside_leaves_no_server(embedded):
    with pytest.raises(RuntimeError), running(embedded):
        raise RuntimeError
    assert servers(embedded.data_dir) == []


def test_a_server_that_cannot_start_says_why(embedded, monkeypatch):
    monkeypatch.setattr(redis_server, "_unused", lambda _: True)
    lock = redis_server._lock(embedded, "lock")
    with pytest.raises(Failure, match="another npu-proxy already runs on"), running(embedded):
        pass
    os.close(lock)


def test_commands_at_once_all_work(embedded, root):
    command = [sys.executable, "-m", "cli", "keys", "create", "alice", "--data-dir", str(embedded.data_dir)]
    started = [
        subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(3)
    ]
    made = {process.communicate(timeout=60)[0].strip() for process in started}
    assert [process.returncode for process in started] == [0, 0, 0]
    with running(embedded) as url, connect(url) as redis:
        assert len([key for key in made if UserStore(redis).find(key)]) == 3


#: A command that says when its Redis runs, and then takes its time.
WAITING = """
import signal, sys
from pathlib import Path
from cli.redis_server import running
from cli.settings import Settings
with running(Settings(data_dir=Path(sys.argv[1]))):
    print("inside", flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_however_a_command_ends_its_server_ends_too(start, wait_until, gone, data_dir, number):
    process = start("-c", WAITING, str(data_dir))
    assert process.stdout.readline() == "inside\n"
    [server] = servers(data_dir)
    process.send_signal(number)
    process.wait(timeout=10)
    wait_until(lambda: gone(server), "the end of the server")
    check_unused(Settings(data_dir=data_dir))


# --- letting others in


@pytest.fixture
def command(start, data_dir, free_port):
    """Start `npu-proxy COMMAND` for others to reach, with the fake engine."""

    def run(*words, **environment):
        where = {"NPU_PROXY_DATA_DIR": str(data_dir), "NPU_PROXY_PORT": str(free_port), "NPU_PROXY_HOST": "0.0.0.0"}
        return start("-m", "cli", *words, NPU_PROXY_BACKEND="fake", **{**where, **environment})

    return run


BOTH_WAYS = "nobody has an API key yet: make one with `npu-proxy keys create NAME`, or set NPU_PROXY_AUTH=off"


def test_serve_lets_nobody_in_while_nobody_has_a_key(command, embedded):
    process = command("serve")
    said = process.communicate(timeout=30)[0]
    assert process.returncode == 1
    assert f"Error: 0.0.0.0 lets other machines in, and {BOTH_WAYS} to let everyone in\n" in said
    assert "llm" not in said
    assert servers(embedded.data_dir) == []


def test_the_api_alone_lets_nobody_in_while_nobody_has_a_key(command, valkey):
    process = command("api", REDIS_URL=valkey.url)
    assert BOTH_WAYS in process.communicate(timeout=30)[0]
    assert process.returncode == 1


@pytest.mark.parametrize(
    "environment",
    [
        pytest.param({"NPU_PROXY_AUTH": "off"}, id="keys are off"),
        pytest.param({"NPU_PROXY_HOST": "127.0.0.1"}, id="on loopback"),
        pytest.param({"NPU_PROXY_HOST": "127.0.0.1", "NPU_PROXY_AUTH": "keys"}, id="keys on loopback"),
        pytest.param({"REDIS_URL": "unix:///nowhere/redis.sock"}, id="without a Redis each request is refused anyway"),
    ],
)
def test_the_api_starts_where_nobody_is_let_in_by_accident(command, valkey, wait_until, free_port, environment):
    process = command("api", **{"REDIS_URL": valkey.url, **environment})
    wait_until(lambda: process.poll() is not None or connects(free_port), "the API or its end")
    assert process.poll() is None


def test_the_api_starts_for_others_once_somebody_has_a_key(command, valkey, users, wait_until, free_port):
    users.create("alice")
    process = command("api", REDIS_URL=valkey.url)
    wait_until(lambda: process.poll() is not None or connects(free_port), "the API or its end")
    assert process.poll() is None
