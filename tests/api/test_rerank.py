"""`POST /v1/rerank`, with the fake engine: a score is the part of the query's words that the document has."""

import pytest

from tests.api.bodies import BODIES, FAKE_RERANK

BODY = BODIES["/v1/rerank"]
DOCUMENTS = ["a dog", "the red fox", "a fox", "a red fox"]


def ranked(http, **change):
    response = http.post("/v1/rerank", json={"model": FAKE_RERANK, "query": "Red fox", "documents": DOCUMENTS} | change)
    assert response.status_code == 200, response.text
    return response.json()


def test_the_best_come_first_and_equal_ones_as_they_were_named(http):
    answer = ranked(http)
    assert [(r["index"], r["relevance_score"]) for r in answer["results"]] == [(1, 1.0), (3, 1.0), (2, 0.5), (0, 0.0)]
    assert (answer["model"], answer["object"]) == (FAKE_RERANK, "list")
    assert answer["id"].startswith("rerank-")
    assert not [r for r in answer["results"] if "document" in r]


def test_the_query_is_paid_with_each_document(http):
    answer = ranked(http)
    assert answer["usage"] == {"prompt_tokens": 4 * 2 + 10, "total_tokens": 18}
    assert answer["meta"]["tokens"]["input_tokens"] == 18


@pytest.mark.parametrize(("top_n", "indices"), [(1, [1]), (3, [1, 3, 2]), (99, [1, 3, 2, 0])])
def test_of_many_only_the_best_are_told(http, top_n, indices):
    assert [r["index"] for r in ranked(http, top_n=top_n)["results"]] == indices


def test_documents_come_back_when_asked_for_however_they_were_given(http):
    documents = [{"text": "a dog", "title": "x"}, "fox"]
    results = ranked(http, documents=documents, return_documents=True)["results"]
    assert [r["document"] for r in results] == [{"text": "fox"}, {"text": "a dog"}]


def test_it_can_be_handed_in_as_a_job(http):
    job = http.post("/v1/jobs", json={"endpoint": "/v1/rerank", "body": BODY}).json()
    while (job := http.get(f"/v1/jobs/{job['id']}").json())["status"] in ("queued", "in_progress"):
        pass
    assert [r["index"] for r in job["result"]["results"]] == [1, 2]
    assert job["result"]["results"][0]["document"] == {"text": "the red fox"}


def test_another_kind_of_model_does_not_rank(http):
    response = http.post("/v1/rerank", json={**BODY, "model": "all-minilm"})
    assert response.status_code == 404
    response = http.post("/v1/embeddings", json={"model": FAKE_RERANK, "input": "x"})
    assert response.status_code == 404
