"""Processes that die under load, and the end of everything."""

import json
import signal
import threading
import time

import httpx
import psutil
import pytest

from tests.e2e.numbered import fault
from tests.e2e.servers import FAKE_LLM, Server, closed
from tests.support.waiting import until
from tests.support.workers import end, gone

CHAT = "/v1/chat/completions"


def body(count: int, **more) -> dict:
    return {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "max_tokens": count, **more}


class Reader(threading.Thread):
    """Reads a chat of `count` words as a stream, whatever happens to the server."""

    def __init__(self, server: Server, count: int) -> None:
        super().__init__(daemon=True)
        self._url, self._count = server.url + CHAT, count
        self.pieces: list[str] = []
        self.last = ""
        self.start()

    def run(self) -> None:
        try:
            with httpx.stream("POST", self._url, json=body(self._count, stream=True), timeout=30) as response:
                for line in response.iter_lines():
                    if line.startswith("data: {"):
                        choices = json.loads(line.removeprefix("data: ")).get("choices")
                        self.pieces.append(choices[0]["delta"].get("content", "") if choices else "")
                    self.last = line or self.last
        except httpx.HTTPError as error:
            self.last = repr(error)


@pytest.fixture(scope="module")
def survivor():
    """One server that several tests do harm to, each of which leaves it well again."""
    server = Server(fake_token_ms=20).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


def test_a_result_outlives_the_client_and_the_api(survivor):
    server = survivor
    job_id = httpx.post(server.url + "/v1/jobs", json={"endpoint": CHAT, "body": body(100)}).json()["id"]
    before = server.api_pids()
    for pid in before:
        end(pid)
    until(lambda: all(gone(pid) for pid in before), what="the end of the API")
    server.until_ready()
    assert not set(server.api_pids()) & set(before)

    def result():
        job = httpx.get(f"{server.url}/v1/jobs/{job_id}").json()
        return job["result"] if job["status"] == "completed" else None

    text = until(result, what="the job's end")["choices"][0]["message"]["content"]
    assert fault([text], 100) is None


def test_streams_go_on_when_an_engine_or_redis_is_killed(survivor):
    server = survivor
    readers = [Reader(server, 150) for _ in range(3)]
    until(lambda: all(len(r.pieces) > 10 for r in readers), what="the streams' beginning")
    for engine in server.pids("engines.process"):
        end(engine)
    until(lambda: all(len(r.pieces) > 30 for r in readers), what="tokens behind the crash")
    [redis] = server.pids("valkey-server")
    end(redis)
    for reader in readers:
        reader.join(30)
        assert fault(reader.pieces, 150) is None
        assert reader.last == "data: [DONE]"


def test_sigterm_to_the_api_lets_short_answers_finish_and_it_comes_back(survivor):
    server = survivor
    reader = Reader(server, 30)
    until(lambda: len(reader.pieces) > 2, what="the stream's beginning")
    arbiter = server.api_pids()[0]
    psutil.Process(arbiter).terminate()
    reader.join(10)
    assert fault(reader.pieces, 30) is None
    until(lambda: gone(arbiter), what="the end of the API")
    server.until_ready()


def test_ctrl_c_ends_every_process_within_five_seconds_with_streams_open(own_server):
    server = own_server(fake_token_ms=20)
    readers = [Reader(server, 5000) for _ in range(4)]
    until(lambda: all(r.pieces for r in readers), what="the streams' beginning")
    family = server.family()
    told = time.monotonic()
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(10) == 0
    until(lambda: all(gone(pid) for pid in family), 5, "the end of all processes")
    assert time.monotonic() - told < 5


def test_kill_9_leaves_no_process(own_server):
    server = own_server(fake_token_ms=20)
    reader = Reader(server, 5000)
    until(lambda: reader.pieces, what="the stream's beginning")
    family = server.family()
    server.process.kill()
    server.process.wait()
    until(lambda: all(gone(pid) for pid in family), what="the end of all processes")
