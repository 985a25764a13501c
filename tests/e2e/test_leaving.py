"""A client that leaves takes its job along; a job handed in stays. More of it in `tests/faults/test_leaving.py`."""

import json
import time

import httpx
import pytest

from tests.e2e.servers import FAKE_EMBED, FAKE_LLM, Server, closed
from tests.support.waiting import until

CHAT = "/v1/chat/completions"
#: From the client's leaving to the job's end, as its record has it.
NOTICED_S = 0.6


@pytest.fixture(scope="module")
def slow():
    """A word every 20 ms: an answer of 5000 is never finished here."""
    server = Server(fake_token_ms=20, llm_slots=4, keepalive_s=0.3, default_max_tokens=5000).start()
    try:
        yield server.until_ready()
    finally:
        closed(server)


@pytest.fixture
def http(slow):
    with httpx.Client(base_url=slow.url, timeout=30) as client:
        yield client


def chat(name: str, **more) -> dict:
    """An endless chat, to be found among the jobs by its name."""
    return {"model": FAKE_LLM, "messages": [{"role": "user", "content": "x"}], "metadata": {"name": name}, **more}


def until_state(http, job_id, *states):
    """The job, once it is in one of these states."""

    def found():
        job = http.get(f"/v1/jobs/{job_id}").json()
        return job if job["status"] in states else None

    return until(found, what=f"{job_id} to be {states}")


@pytest.mark.parametrize(
    ("path", "more"),
    [
        (CHAT, {"stream": True}),
        ("/v1/completions", {"stream": True, "prompt": "x"}),
        ("/api/chat", {"options": {"num_predict": 5000}}),
    ],
)
def test_leaving_a_stream_cancels_its_job(http, path, more):
    with http.stream("POST", path, json=chat("stream", **more)) as response:
        job_id = response.headers["X-NPU-Proxy-Job"]
        lines = response.iter_lines()
        next(lines), next(lines)
    left = time.monotonic()
    job = until_state(http, job_id, "cancelled")
    assert time.monotonic() - left < NOTICED_S
    assert job["usage"]["completion_tokens"] < 100


def test_delete_stops_a_running_job_and_leaves_its_text(http):
    accepted = http.post(CHAT, json=chat("delete"), headers={"Prefer": "respond-async"})
    assert (accepted.status_code, accepted.headers["Preference-Applied"]) == (202, "respond-async")
    where = accepted.headers["Location"]
    until(lambda: http.get(where).json()["usage"]["completion_tokens"] > 2)
    http.delete(where)
    job = until_state(http, accepted.json()["id"], "cancelled")
    assert job["partial"]["text"].startswith(" 1 2 3")
    assert job["result"] is None
    assert http.delete(where).json()["status"] == "cancelled"


def test_delete_of_a_finished_job_changes_nothing(http):
    job = http.post("/v1/jobs", json={"endpoint": "/v1/embeddings", "body": {"model": FAKE_EMBED, "input": "x"}})
    done = until_state(http, job.json()["id"], "completed")
    assert http.delete(f"/v1/jobs/{done['id']}").json() == done
    assert done["result"]["data"][0]["object"] == "embedding"


def test_a_call_whose_job_is_cancelled_by_another_is_not_tried_again(http):
    with http.stream("POST", CHAT, json=chat("other", stream=True)) as response:
        http.delete(f"/v1/jobs/{response.headers['X-NPU-Proxy-Job']}")
        last = [line for line in response.iter_lines() if line.startswith("data:")][-1]
    assert json.loads(last.removeprefix("data: "))["error"]["code"] == "cancelled"


def read_events(http, job_id, last="", most=None):
    """The ids, names and data of a job's events, up to the end or to `most`."""
    found, event = [], {}
    headers = {"Last-Event-ID": last} if last else {}
    with http.stream("GET", f"/v1/jobs/{job_id}/events", headers=headers) as response:
        for line in response.iter_lines():
            if line.startswith(":"):
                continue
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif event:
                found.append((event["id"], event["event"], event["data"]))
                event = {}
                if len(found) == most:
                    break
    return found


def test_events_resumed_where_they_broke_off_are_whole(http):
    body = chat("resume", max_tokens=30)
    job_id = http.post("/v1/jobs", json={"endpoint": CHAT, "body": body}).json()["id"]
    first = read_events(http, job_id, most=7)
    second = read_events(http, job_id, first[-1][0], most=11)
    third = read_events(http, job_id, second[-1][0])
    assert first + second + third == read_events(http, job_id)
    names = [name for _, name, _ in first + second + third]
    assert names == ["status", "status", *["token"] * 30, "done"]
    texts = [json.loads(data)["text"] for _, name, data in first + second + third if name == "token"]
    assert "".join(texts) == "".join(f" {n}" for n in range(1, 31))
    assert read_events(http, job_id, third[-1][0]) == []
