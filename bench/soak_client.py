"""The soak's clients: each sends one request after the other, of every kind there is, and checks each answer."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from bench.soak_figures import Counts

CHAT, EMBEDDINGS, JOBS = "/v1/chat/completions", "/v1/embeddings", "/v1/jobs"
#: A client pauses so long at most between two requests. Seconds.
LONGEST_PAUSE_S = 1.0
#: Lengths of answers. Tokens.
SHORT, LONG = (8, 96), (300, 600)
LONG_PART = 0.1
POLL_S = 0.2
#: Nothing here takes nearly so long. Seconds.
PATIENCE_S = 180.0
#: From a cancel, or a client's leaving, to the job's end. Seconds.
CANCEL_S = 15.0
KEPT_FAULTS = 20


class Wrong(Exception):
    """An answer that is not what was asked for."""


class Tally:
    """What all clients did. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = Counts()
        self.answers: dict[str, int] = {}
        self.faults: list[str] = []

    def answered(self, kind: str, tokens: int) -> None:
        with self._lock:
            self._counts = Counts(self._counts.requests + 1, self._counts.errors, self._counts.tokens + tokens)
            self.answers[kind] = self.answers.get(kind, 0) + 1

    def failed(self, kind: str, why: str) -> None:
        with self._lock:
            self._counts = Counts(self._counts.requests + 1, self._counts.errors + 1, self._counts.tokens)
            if len(self.faults) < KEPT_FAULTS:
                self.faults.append(f"{kind}: {why[:300]}")

    def counts(self) -> Counts:
        with self._lock:
            return self._counts


class Client:
    """One user, in a thread of its own. `stop` lets it finish what it asked; `hurry` does not, and nothing that fails
    from then on counts."""

    def __init__(self, url: str, models: dict[str, str], number: int, tally: Tally) -> None:
        self._url = url
        self._models = models
        self._user = f"soak {number}"
        self._chance = random.Random(number)
        self._tally = tally
        self._stop = threading.Event()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._run, name=self._user, daemon=True)
        self._acts: dict[str, tuple[int, Callable[[httpx.Client], int]]] = {
            "streams": (30, self._stream),
            "calls": (20, self._call),
            "embeddings": (20, self._embed),
            "jobs": (15, self._job),
            "cancels": (8, self._cancel),
            "leavings": (7, self._leave),
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self, hurry: bool = False) -> None:
        if hurry:
            self._hurry.set()
        self._stop.set()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended by then."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        kinds = list(self._acts)
        weights = [weight for weight, _ in self._acts.values()]
        with httpx.Client(base_url=self._url, timeout=PATIENCE_S) as http:
            while not self._stop.is_set():
                [kind] = self._chance.choices(kinds, weights)
                try:
                    tokens = self._acts[kind][1](http)
                except Exception as error:  # Whatever it is, the answer was not what it should be.
                    if not self._hurry.is_set():
                        self._tally.failed(kind, f"{type(error).__name__}: {error}")
                else:
                    self._tally.answered(kind, tokens)
                self._stop.wait(self._chance.uniform(0, LONGEST_PAUSE_S))

    def _chat(self, **more: Any) -> dict[str, Any]:
        length = LONG if self._chance.random() < LONG_PART else SHORT
        number = self._chance.randrange(1_000_000)
        return {
            "model": self._models["llm"],
            "messages": [{"role": "user", "content": f"Write what you know about the number {number}."}],
            "max_tokens": self._chance.randint(*length),
            "ignore_eos": True,
            "user": self._user,
            **more,
        }

    # --- what it asks for; each returns the tokens that were made for it

    def _stream(self, http: httpx.Client) -> int:
        body = self._chat(stream=True, stream_options={"include_usage": True})
        with http.stream("POST", CHAT, json=body) as response:
            if response.status_code != 200:
                response.read()
                raise Wrong(f"{response.status_code} {response.text}")
            return check_stream(response.iter_lines(), body["max_tokens"])

    def _call(self, http: httpx.Client) -> int:
        body = self._chat()
        return check_chat(expect(http.post(CHAT, json=body), 200), body["max_tokens"])

    def _embed(self, http: httpx.Client) -> int:
        count = self._chance.randint(1, 8)
        texts = [f"text {self._chance.randrange(1000)} " * self._chance.randint(1, 20) for _ in range(count)]
        body = {"model": self._models["embed"], "input": texts, "user": self._user}
        check_vectors(expect(http.post(EMBEDDINGS, json=body), 200), count)
        return 0

    def _job(self, http: httpx.Client) -> int:
        body = self._chat()
        job = expect(http.post(JOBS, json={"endpoint": CHAT, "body": body}), 202)
        done = self._ended(http, job["id"], PATIENCE_S)
        if done["status"] != "completed":
            raise Wrong(f"the job is {done['status']}: {done['error']}")
        return check_chat(done["result"], body["max_tokens"])

    def _cancel(self, http: httpx.Client) -> int:
        job = expect(http.post(JOBS, json={"endpoint": CHAT, "body": self._chat(max_tokens=1000)}), 202)
        self._stop.wait(self._chance.uniform(0, 2))
        expect(http.delete(f"{JOBS}/{job['id']}"), 200)
        done = self._ended(http, job["id"], CANCEL_S)
        if done["status"] != "cancelled":
            raise Wrong(f"the cancelled job is {done['status']}")
        return int(done["usage"]["completion_tokens"])

    def _leave(self, http: httpx.Client) -> int:
        with http.stream("POST", CHAT, json=self._chat(stream=True, max_tokens=1000)) as response:
            job_id = response.headers["X-NPU-Proxy-Job"]
            lines = response.iter_lines()
            for _ in range(self._chance.randint(1, 20)):
                next(lines, "")
        done = self._ended(http, job_id, CANCEL_S)
        if done["status"] != "cancelled":
            raise Wrong(f"the job of a client that left is {done['status']}")
        return int(done["usage"]["completion_tokens"])

    def _ended(self, http: httpx.Client, job_id: str, within_s: float) -> dict[str, Any]:
        give_up_s = time.monotonic() + within_s
        while (job := expect(http.get(f"{JOBS}/{job_id}"), 200))["status"] in ("queued", "in_progress"):
            if time.monotonic() > give_up_s:
                raise Wrong(f"a job is still {job['status']} after {within_s:g} s")
            if self._hurry.is_set():
                raise Wrong("nobody waits any more")
            time.sleep(POLL_S)
        return job


def expect(response: httpx.Response, status: int) -> dict[str, Any]:
    """The body of an answer with that status. Raises `Wrong`."""
    if response.status_code != status:
        raise Wrong(f"{response.status_code} {response.text}")
    body: dict[str, Any] = response.json()
    return body


def check_chat(body: dict[str, Any], tokens: int) -> int:
    """The tokens of a whole answer of that length. Raises `Wrong`."""
    [choice] = body["choices"]
    if choice["finish_reason"] != "length" or body["usage"]["completion_tokens"] != tokens:
        raise Wrong(f"{body['usage']['completion_tokens']} tokens for {tokens}, {choice['finish_reason']}")
    if not choice["message"]["content"]:
        raise Wrong("an answer without text")
    return tokens


def check_stream(lines: Any, tokens: int) -> int:
    """The tokens of a whole stream of that length. Raises `Wrong`."""
    text, reason, usage, done = "", None, None, False
    for line in lines:
        if not line.startswith("data: "):
            continue
        if line == "data: [DONE]":
            done = True
            continue
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            raise Wrong(f"the stream ended with {chunk['error']}")
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            text += choice["delta"].get("content") or ""
            reason = choice["finish_reason"] or reason
    if not (done and text and usage and reason == "length" and usage["completion_tokens"] == tokens):
        raise Wrong(f"the stream broke off: {reason}, {usage}, {len(text)} characters")
    return tokens


def check_vectors(body: dict[str, Any], count: int) -> None:
    """That there are so many vectors of length 1. Raises `Wrong`."""
    vectors = [entry["embedding"] for entry in body["data"]]
    if len(vectors) != count:
        raise Wrong(f"{len(vectors)} vectors for {count} texts")
    if any(abs(sum(x * x for x in vector) - 1) > 0.01 for vector in vectors):
        raise Wrong("a vector whose length is not 1")
