"""The API dies, ends or is replaced; the jobs do not notice, and readers go on where they were."""

import re
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future

import httpx
import psutil
import pytest

from cli.api_server import DRAIN_PART
from cli.settings import Settings
from tests.e2e.servers import Server, closed
from tests.faults.conftest import spread
from tests.faults.traffic import (
    CHAT,
    EventReader,
    OpenStream,
    Traffic,
    a_job,
    all_jobs,
    assert_ended_whole,
    chat,
    client_of,
    read_chat,
    until_ended,
)
from tests.support.answers import assert_whole
from tests.support.waiting import until
from tests.support.workers import end, gone

WORDS = 150
#: Words that take longer than the API is given to end.
LONG = 300
DRAIN_S = DRAIN_PART * Settings().shutdown_s


@pytest.fixture(scope="module")
def served() -> Iterator[Server]:
    """A server whose API these tests kill, and leave well again."""
    server = Server(fake_token_ms=10, keepalive_s=0.3).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


#: Which of [arbiter, worker] to kill; in full all three by turns.
VICTIMS = (slice(0, 2), slice(1, 2), slice(0, 1))


def until_new_api(server: Server, old: list[int]) -> None:
    """Wait until what was killed is gone, and others answer."""
    until(lambda: all(gone(pid) for pid in old), 30, "the end of the old")

    def new() -> bool:
        pids = server.api_pids()
        return len(pids) == 2 and not set(pids) & set(old)

    until(new, 60, "a new API")
    until(lambda: answers(server), 60, "an answer")


def answers(server: Server) -> bool:
    with client_of(server) as http:
        try:
            return http.get("/health/liveness", timeout=5).status_code == 200
        except httpx.HTTPError:
            return False


def test_jobs_and_readers_do_not_mind_that_the_api_is_killed(served, times, figure):
    server = served
    traffic = Traffic(server, WORDS)
    readers, away = [], []
    for turn in range(times(2, 20)):
        traffic.until_flowing(60)
        readers.append(handed_in(server, WORDS))
        victims = server.api_pids()[VICTIMS[turn % 3]]
        for pid in victims:
            end(pid)
        killed = time.monotonic()
        until_new_api(server, victims)
        away.append(time.monotonic() - killed)
    traffic.until_flowing(60)
    traffic.stop()
    for reader in readers:
        assert_whole(reader.join(), WORDS)
        assert not any("Last-Event-ID" in comment for comment in reader.comments)
    assert sum(reader.openings for reader in readers) > len(readers)
    # Chats whose connection broke as well: nobody left, so nobody cancelled.
    traffic.assert_nothing_lost(streams_may_break=True)
    cut = sum(stream.broke for stream in traffic.streams)
    assert cut
    figure("API kill -9 (both, worker, arbiter by turns): away", spread(away))
    figure("API kill -9: jobs", f"{len(traffic.promised)} handed in, {len(traffic.streams)} streams, {cut} cut, 0 lost")
    figure("API kill -9: readers", f"{len(readers)}, opened {sum(r.openings for r in readers)} times, all whole")


def chat_in_thread(server: Server, words: int) -> tuple[OpenStream, threading.Thread]:
    """A chat that is being read."""
    stream = OpenStream("")

    def read() -> None:
        try:
            with httpx.stream("POST", server.url + CHAT, json=chat(words, stream=True), timeout=60) as response:
                stream.job_id = response.headers["X-NPU-Proxy-Job"]
                read_chat(response, stream)
        except httpx.HTTPError:
            stream.broke = True
        stream.over = True

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    until(lambda: len(stream.pieces) > 2, what="the stream's beginning")
    return stream, thread


def handed_in(server: Server, words: int) -> EventReader:
    """The reader of a job that was handed in and runs."""
    reader = EventReader(server.url, httpx.post(server.url + "/v1/jobs", json=a_job(words)).json()["id"]).start()
    until(lambda: len(reader.log) > 5, what="a reader that reads")
    return reader


def call_in_thread(server: Server, words: int) -> "Future[httpx.Response]":
    """A chat without a stream, once its job is known."""
    before = set(all_of(server))
    answer: Future[httpx.Response] = Future()

    def call() -> None:
        answer.set_result(httpx.post(server.url + CHAT, json=chat(words), timeout=60))

    threading.Thread(target=call, daemon=True).start()
    until(lambda: set(all_of(server)) - before, what="the job")
    return answer


def tell_to_end(server: Server, how: signal.Signals) -> float:
    """Send the arbiter that signal while a bit of everything is open; how long the process that served took to end."""
    arbiter, worker = server.api_pids()
    kills, ends = server.log.count("SIGKILL!"), server.log.count("api ended (exit code 0)")
    long, long_thread = chat_in_thread(server, LONG)
    call = call_in_thread(server, LONG)
    reader = handed_in(server, LONG)
    with client_of(server) as http, http.stream("POST", CHAT, json=chat(5000, stream=True)) as response:
        left = response.headers["X-NPU-Proxy-Job"]
        short, short_thread = chat_in_thread(server, 20)
        psutil.Process(arbiter).send_signal(how)
        told = time.monotonic()
    until(lambda: gone(worker), 30, "the end of the old process")
    took_s = time.monotonic() - told
    long_thread.join(30)
    short_thread.join(30)
    assert (short.last, len(short.pieces)) == ("data: [DONE]", 20)
    assert not long.broke
    assert f"The server stops; the job runs on as {long.job_id}." in long.last
    answer = call.result(30)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (503, "false")
    [called] = re.findall(r"runs on as (job_\w+)\.", answer.text)
    if how == signal.SIGTERM:
        until(lambda: server.log.count("api ended (exit code 0)") == ends + 1, what="exit code 0")
    assert server.log.count("SIGKILL!") == kills
    until_new_api(server, [worker])
    assert_whole(reader.join(), LONG)
    assert reader.openings == 2
    assert any("The server stops" in comment for comment in reader.comments)
    with client_of(server) as http:
        for job_id in (long.job_id, called):
            assert_ended_whole(http, job_id, LONG)
        assert until_ended(http, left) == "cancelled"
    return took_s


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGHUP], ids=["end", "reload"])
def test_told_to_end_the_api_lets_short_answers_finish_and_ends_the_others_in_good_order(served, how, times, figure):
    took = [tell_to_end(served, how) for _ in range(times(1, 10))]
    figure(f"API told to end by {how.name}: gone", spread(took))
    assert max(took) < DRAIN_S + times(20, 1)


def all_of(server: Server) -> list[str]:
    with client_of(server) as http:
        return all_jobs(http)


class ArmedServer(Server):
    """A server whose API dies at the fault point that is set, each time it comes there."""

    def __init__(self) -> None:
        super().__init__(embed_model="", fake_token_ms=1)
        self.point = self.data_dir / "fault_point"
        self.point.write_text("")
        self.command = ("-m", "tests.faults.programs.armed", str(self.point), "serve")

    def api_pids(self) -> list[int]:
        return sorted(self.pids(f"{self.point} api"))


@pytest.fixture(scope="module")
def armed() -> Iterator[ArmedServer]:
    server = ArmedServer()
    server.start()
    try:
        server.until_ready()
        yield server
    finally:
        closed(server)


def die(server: Server, body: dict[str, object], path: str) -> None:
    """Send what the API dies of, and wait for the next."""
    worker = server.api_pids()[1:]
    with pytest.raises(httpx.HTTPError):
        httpx.post(server.url + path, json=body, timeout=30)
    until_next(server, worker)


def until_next(server: Server, old: list[int]) -> None:
    assert old
    until(lambda: all(gone(pid) for pid in old), 30, "the end of the old")
    until(lambda: answers(server), 30, "the next")


@pytest.mark.parametrize("point", ["prepared", "submitted", "cancelled"])
def test_an_api_that_dies_amid_a_request_leaves_a_whole_job_or_none(armed, point, times, figure):
    count = times(1, 50)
    before = set(all_of(armed))
    armed.point.write_text(point)
    for turn in range(count):
        if point == "cancelled":
            worker = armed.api_pids()[1:]
            with httpx.stream("POST", armed.url + CHAT, json=chat(5000, stream=True), timeout=30) as response:
                next(response.iter_lines())
            until_next(armed, worker)
        elif turn % 2:
            die(armed, a_job(30), "/v1/jobs")
        else:
            die(armed, chat(30, stream=bool(turn % 4)), CHAT)
    armed.point.write_text("")
    jobs = set(all_of(armed)) - before
    assert len(jobs) == (0 if point == "prepared" else count)
    with client_of(armed) as http:
        for job_id in jobs:
            if point == "submitted":
                assert_ended_whole(http, job_id, 30)
            else:
                assert until_ended(http, job_id) == "cancelled"
        assert http.get("/health").json()["engines"]["llm"]["waiting"] == 0
    figure(f"API kill -9 at {point}", f"{count} times, {len(jobs)} jobs, each ended once")
