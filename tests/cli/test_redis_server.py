"""The embedded Redis, with the real server."""

import signal

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cli.errors import Failure
from cli.redis_server import answers, check_reachable, check_unused, redis_url
from cli.settings import Settings


def start_redis(start, settings):
    return start("-m", "cli", "redis", NPU_PROXY_DATA_DIR=str(settings.data_dir))


@pytest.fixture
def settings(data_dir):
    return Settings(data_dir=data_dir)


def client(settings):
    return Redis.from_url(redis_url(settings), retry=Retry(NoBackoff(), 0))


def test_the_server_keeps_what_was_written_through_kill_9(start, wait_until, settings):
    first = start_redis(start, settings)
    wait_until(lambda: answers(settings), "the first server")
    with client(settings) as redis:
        redis.set("job", "accepted")

    first.kill()
    first.wait()
    start_redis(start, settings)
    wait_until(lambda: answers(settings), "the second server")

    with client(settings) as redis:
        assert redis.get("job") == b"accepted"


def test_the_server_never_throws_anything_out_and_listens_to_this_user_only(start, wait_until, settings):
    start_redis(start, settings)
    wait_until(lambda: answers(settings), "the server")
    with client(settings) as redis:
        config = redis.config_get("maxmemory-policy", "appendonly", "appendfsync", "port")
    assert config == {
        "maxmemory-policy": "noeviction",
        "appendonly": "yes",
        "appendfsync": "no",
        "port": "0",
    }
    folder = settings.data_dir / "redis"
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "redis.sock").stat().st_mode & 0o777 == 0o700


def test_a_second_server_on_one_data_folder_says_so_and_ends(start, wait_until, settings):
    start_redis(start, settings)
    wait_until(lambda: answers(settings), "the first server")

    second = start_redis(start, settings)

    assert second.wait(timeout=10) == 1
    *_, said = second.stdout.read().splitlines()
    assert said == (
        f"Error: another npu-proxy already runs on {settings.data_dir}: stop it, or set NPU_PROXY_DATA_DIR"
    )
    assert answers(settings)


def test_a_second_serve_on_one_data_folder_says_so_and_ends(start, wait_until, settings, free_port):
    start_redis(start, settings)
    wait_until(lambda: answers(settings), "the first server")

    second = start(
        *("-m", "cli", "serve", "--backend", "fake", "--port", str(free_port)),
        NPU_PROXY_DATA_DIR=str(settings.data_dir),
    )

    assert second.wait(timeout=10) == 1
    assert "another npu-proxy already runs" in second.stdout.read()


def test_the_lock_lives_just_as_long_as_the_server(start, wait_until, settings):
    server = start_redis(start, settings)
    wait_until(lambda: answers(settings), "the server")
    with pytest.raises(Failure):
        check_unused(settings)

    server.send_signal(signal.SIGTERM)
    server.wait(timeout=10)

    check_unused(settings)


def test_a_data_folder_with_too_long_a_path_is_refused_with_what_to_set(tmp_path):
    settings = Settings(data_dir=tmp_path / ("x" * 100))
    with pytest.raises(Failure, match="too long for a socket .* set NPU_PROXY_DATA_DIR"):
        redis_url(settings)


def test_a_redis_of_ones_own_is_used_as_it_is():
    assert redis_url(Settings(redis_url="redis://elsewhere/1")) == "redis://elsewhere/1"


def test_a_redis_that_does_not_answer_is_told_without_its_password(free_port):
    with pytest.raises(Failure) as caught:
        check_reachable(f"redis://me:secret@127.0.0.1:{free_port}/0")
    assert str(free_port) in str(caught.value)
    assert "secret" not in str(caught.value)
