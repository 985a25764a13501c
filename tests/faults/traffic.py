"""Clients that use a server all the time, and remember what they were promised."""

import json
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from jobs.events import Event
from tests.e2e.numbered import fault
from tests.e2e.servers import FAKE_EMBED, FAKE_LLM, Server
from tests.support.answers import assert_whole
from tests.support.waiting import until

CHAT = "/v1/chat/completions"
FINAL = ("completed", "incomplete", "failed", "cancelled", "expired")
#: Between two jobs handed in, and between two tries of a client that was refused. Seconds.
PAUSE_S = 0.1


#: Making the usual one for each client, with all the authorities there are, would be most of the load here.
_NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client_of(server: Server) -> httpx.Client:
    """A client of its own; close it."""
    return httpx.Client(base_url=server.url, timeout=60, verify=_NO_TLS)


def chat(words: int, **more: object) -> dict[str, object]:
    return {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "max_tokens": words, **more}


def a_job(words: int) -> dict[str, object]:
    return {"endpoint": CHAT, "body": chat(words)}


EMBEDDING = {"model": FAKE_EMBED, "input": ["one", "two"]}


@dataclass
class Refusal:
    path: str
    status: int
    took_s: float
    retry_after: str | None
    body: str


@dataclass
class OpenStream:
    """A chat as its client has it so far."""

    job_id: str
    pieces: list[str] = field(default_factory=list)
    #: When each word came.
    times: list[float] = field(default_factory=list)
    last: str = ""
    over: bool = False
    broke: bool = False

    @property
    def heard_at(self) -> float:
        return self.times[-1] if self.times else 0.0

    def went_on_at(self, since: float) -> float:
        """When its first word behind that moment came; that moment if none did."""
        return next((at for at in self.times if at > since), since)


class Traffic:
    """Streams, jobs handed in and embeddings, from its making to `stop`. A client that is refused, or whose connection
    breaks, comes again."""

    def __init__(self, server: Server, words: int = 100, streams: int = 3) -> None:
        self._server = server
        self._words = words
        self._stopping = threading.Event()
        self.streams: list[OpenStream] = []
        #: Ids of the jobs that were answered with 202, and how many words each must have; 0 for embeddings.
        self.promised: dict[str, int] = {}
        self.embedded = 0
        self.refusals: list[Refusal] = []
        self.broken = 0
        self.surprises: list[str] = []
        clients = [*[self._stream] * streams, self._hand_in, self._embed]
        self._threads = [threading.Thread(target=self._repeat, args=(client,), daemon=True) for client in clients]
        for thread in self._threads:
            thread.start()

    def open_streams(self) -> list[OpenStream]:
        return [stream for stream in self.streams if not stream.over]

    def until_flowing(self, timeout_s: float = 30.0) -> None:
        """Wait until each kind of client has got something."""
        promised, embedded = len(self.promised), self.embedded
        since = time.monotonic()
        until(
            lambda: len(self.promised) > promised
            and self.embedded > embedded
            and any(stream.heard_at > since for stream in self.streams),
            timeout_s,
            "traffic that flows",
        )

    def stop(self) -> None:
        """Send nothing more, and read what is open to its end."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client hangs"

    def assert_nothing_lost(self, streams_may_break: bool = False) -> None:
        """Every promise was kept, once and whole; whatever else is known has come to an end. After `stop`."""
        assert not self.surprises, self.surprises[:5]
        with client_of(self._server) as http:
            for job_id, words in self.promised.items():
                assert_ended_whole(http, job_id, words)
            for stream in self.streams:
                assert streams_may_break or not stream.broke, stream
                if not stream.broke:
                    assert fault(stream.pieces, self._words) is None, stream
                    assert stream.last == "data: [DONE]", stream
                assert_ended_whole(http, stream.job_id, self._words)
            for job_id in all_jobs(http):
                until_ended(http, job_id)

    def _repeat(self, client: Callable[[httpx.Client], bool]) -> None:
        while not self._stopping.is_set():
            try:
                # A new connection each time: one that is kept could be refused by its age, not by the server.
                with client_of(self._server) as http:
                    if not client(http):
                        self._stopping.wait(PAUSE_S)
            except httpx.HTTPError:
                self.broken += 1
                self._stopping.wait(PAUSE_S)

    def _refused(self, response: httpx.Response, asked: float) -> bool:
        if response.status_code < 300:
            return False
        took_s = time.monotonic() - asked
        response.read()
        found = Refusal(
            response.request.url.path, response.status_code, took_s, response.headers.get("Retry-After"), response.text
        )
        self.refusals.append(found)
        if response.status_code != 503:
            self.surprises.append(f"{found}")
        return True

    def _stream(self, http: httpx.Client) -> bool:
        asked = time.monotonic()
        with http.stream("POST", CHAT, json=chat(self._words, stream=True)) as response:
            if self._refused(response, asked):
                return False
            stream = OpenStream(response.headers["X-NPU-Proxy-Job"])
            self.streams.append(stream)
            try:
                read_chat(response, stream)
            except httpx.HTTPError:
                stream.broke = True
            finally:
                stream.over = True
            if '"error"' in stream.last:
                stream.broke = True
        return True

    def _hand_in(self, http: httpx.Client) -> bool:
        embedding = len(self.promised) % 2
        body = {"endpoint": "/v1/embeddings", "body": EMBEDDING} if embedding else a_job(self._words)
        asked = time.monotonic()
        response = http.post("/v1/jobs", json=body)
        if not self._refused(response, asked):
            self.promised[response.json()["id"]] = 0 if embedding else self._words
        return False

    def _embed(self, http: httpx.Client) -> bool:
        asked = time.monotonic()
        response = http.post("/v1/embeddings", json=EMBEDDING)
        if not self._refused(response, asked):
            assert len(response.json()["data"]) == 2
            self.embedded += 1
        return False


def read_chat(response: httpx.Response, stream: OpenStream) -> None:
    """A chat's words, as they come."""
    for line in response.iter_lines():
        if line.startswith("data: {"):
            choices = json.loads(line.removeprefix("data: ")).get("choices")
            if choices and (word := choices[0]["delta"].get("content")):
                stream.pieces.append(word)
                stream.times.append(time.monotonic())
        stream.last = line or stream.last


def state(http: httpx.Client, job_id: str) -> str:
    answer = http.get(f"/v1/jobs/{job_id}")
    assert answer.status_code == 200, (job_id, answer.text)
    found: str = answer.json()["status"]
    return found


def until_ended(http: httpx.Client, job_id: str) -> str:
    """The job's final state."""
    until(lambda: state(http, job_id) in FINAL, 60, f"the end of {job_id}")
    return state(http, job_id)


def all_jobs(http: httpx.Client) -> list[str]:
    """The ids of all jobs that the server knows."""
    found: list[str] = []
    page: dict[str, Any] = {"has_more": True, "last_id": ""}
    while page["has_more"]:
        page = http.get("/v1/jobs", params={"limit": 100, "after": page["last_id"] or ""}).json()
        found += [job["id"] for job in page["data"]]
    return found


def assert_ended_whole(http: httpx.Client, job_id: str, words: int) -> None:
    """The job ended once, as completed, with its whole text (or, without words, its vectors)."""
    until_ended(http, job_id)
    if words:
        assert_whole(EventReader(http.base_url, job_id).read(), words)
    job = http.get(f"/v1/jobs/{job_id}").json()
    assert job["status"] == "completed", job
    assert len(job["result"]["data"]) == 2 if not words else job["usage"]["completion_tokens"] == words


class EventReader:
    """Reads a job's events as a browser's EventSource does: one that breaks off is opened again with the last id."""

    def __init__(self, url: httpx.URL | str, job_id: str) -> None:
        self._url = httpx.URL(str(url)).join(f"/v1/jobs/{job_id}/events")
        self.log: list[Event] = []
        self.comments: list[str] = []
        self.openings = 0
        self._thread: threading.Thread | None = None

    def start(self) -> "EventReader":
        self._thread = threading.Thread(target=self.read, daemon=True)
        self._thread.start()
        return self

    def join(self) -> list[Event]:
        assert self._thread is not None
        self._thread.join(120)
        assert not self._thread.is_alive(), f"no end after {len(self.log)} events"
        return self.log

    def read(self) -> list[Event]:
        """All events, to the last."""
        while not self.log or self.log[-1].name != "done":
            try:
                self._open()
            except httpx.HTTPError:
                time.sleep(PAUSE_S)
        return self.log

    def _open(self) -> None:
        headers = {"Last-Event-ID": self.log[-1].id} if self.log else {}
        with httpx.stream("GET", self._url, headers=headers, timeout=60, verify=_NO_TLS) as response:
            if response.status_code == 503:
                time.sleep(PAUSE_S)
                return
            assert response.status_code == 200
            self.openings += 1
            event: dict[str, str] = {}
            for line in response.iter_lines():
                if line.startswith(":"):
                    self.comments.append(line)
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = value
                elif event:
                    self.log.append(Event(event["id"], event["event"], event["data"]))
                    event = {}
