"""Ids that nobody gave out: a job's in the path, an event's in `Last-Event-ID`."""

import re
from urllib.parse import quote_from_bytes

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import events, keys
from jobs.connection import connect
from tests.api.bodies import error_of
from tests.e2e.servers import FAKE_LLM

CHARACTERS = b"/\\%\x00\r\n\t :*?#&.;{}[]\"'<>\xff\xc3\xa9\xed\xa0\x80\xf0\x9f\x98\x80-_+,"
LIKE_OURS = st.text("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=23, max_size=25)
HOSTILE = st.one_of(
    st.binary(min_size=1, max_size=60),
    st.lists(st.sampled_from([bytes([byte]) for byte in CHARACTERS]), min_size=1, max_size=40).map(b"".join),
    st.text(min_size=1, max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")),
    LIKE_OURS.map(lambda text: b"job_" + text.encode()),
    st.integers(61, 900).map(lambda length: b"job_" + b"a" * length),
    st.sampled_from([b"npu:job:x", b"job_" + b"a" * 24 + b":events", b"job_" + "\u0661".encode() * 24]),
)


@settings(max_examples=150, deadline=None)
@given(job_id=HOSTILE, method=st.sampled_from(["GET", "DELETE"]), events_too=st.booleans())
def test_a_job_id_of_any_shape_is_a_404_and_never_an_error(http, job_id, method, events_too):
    path = f"/v1/jobs/{quote_from_bytes(job_id, safe='')}"
    if events_too and method == "GET":
        path += "/events"
    if job_id.strip(b"./") == b"":
        return  # A path of dots and slashes is another path.
    # The client would resolve what looks like steps in a path; the server must get it as it is.
    request = http.build_request(method, "/")
    request.extensions["target"] = path.encode()
    answer = http.send(request)
    assert answer.status_code == 404, answer.text
    assert list(answer.json()) == ["error"]
    assert answer.json()["error"]["code"] in ("job_not_found", "not_found")
    assert "Traceback" not in answer.text


@pytest.fixture(scope="module")
def ended(http):
    """The id of a job that has ended, with its events."""
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 8}
    return http.post("/v1/completions", json=body).headers["X-NPU-Proxy-Job"]


@settings(max_examples=100, deadline=None)
@given(
    last=st.one_of(
        st.binary(min_size=1, max_size=60).map(lambda raw: bytes(b for b in raw if b >= 0x21 and b != 0x7F) or b"-"),
        st.tuples(st.integers(0, 2**70), st.integers(0, 2**70)).map(lambda pair: b"%d-%d" % pair),
        st.integers(1, 3000).map(lambda length: b"9" * length),
        st.integers(0, 2**64).map(lambda number: b"%d" % number),
    )
)
def test_an_event_id_that_never_was_starts_at_the_oldest_event_and_says_so(http, ended, last):
    answer = http.get(f"/v1/jobs/{ended}/events", headers={"Last-Event-ID": last})
    assert answer.status_code == 200
    assert answer.text.startswith(": Last-Event-ID is not one of this job's, starting at the oldest event\n\n")
    assert answer.text.count("event: token") == 8
    assert answer.text.count("event: done") == 1


def test_an_event_that_is_not_kept_any_more_starts_at_the_oldest_that_is(http, server):
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 8}
    job_id = http.post("/v1/completions", json=body).headers["X-NPU-Proxy-Job"]
    with connect(f"unix://{server.data_dir}/redis/redis.sock") as redis:
        log = events.read(redis, job_id)
        redis.xtrim(keys.events(job_id), maxlen=4, approximate=False)
    answer = http.get(f"/v1/jobs/{job_id}/events", headers={"Last-Event-ID": log[2].id})
    assert answer.text.startswith(": Last-Event-ID is not one of this job's")
    assert re.findall(r"^id: (.*)$", answer.text, re.MULTILINE) == [event.id for event in log[-4:]]


def test_an_event_of_another_job_is_none_of_this_one(http, ended):
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 3}
    other = http.post("/v1/completions", json=body).headers["X-NPU-Proxy-Job"]
    foreign = re.findall(r"^id: (.*)$", http.get(f"/v1/jobs/{other}/events").text, re.MULTILINE)[1]
    answer = http.get(f"/v1/jobs/{ended}/events", headers={"Last-Event-ID": foreign})
    assert answer.text.startswith(": Last-Event-ID is not one of this job's")
    assert answer.text.count("event: token") == 8


def test_a_job_that_has_expired_is_a_404_also_for_its_events(http, server):
    body = {"model": FAKE_LLM, "prompt": "x", "max_tokens": 3}
    job_id = http.post("/v1/completions", json=body).headers["X-NPU-Proxy-Job"]
    with connect(f"unix://{server.data_dir}/redis/redis.sock") as redis:
        redis.delete(keys.job(job_id), keys.events(job_id))
    for method, more in (("GET", ""), ("GET", "/events"), ("DELETE", "")):
        answer: httpx.Response = http.request(method, f"/v1/jobs/{job_id}{more}", headers={"Last-Event-ID": "1-1"})
        assert (answer.status_code, error_of(answer)["code"]) == (404, "job_not_found")
