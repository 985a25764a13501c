"""Reranking as Cohere and Jina have it."""

from __future__ import annotations

from api.dialects.base import Body, Json, Operation
from api.dialects.openai import floats
from api.schemas import rerank as schemas
from jobs.record import Job
from jobs.request import RerankRequest

RERANK = "/v1/rerank"


def rerank_request(body: Body) -> RerankRequest:
    """The documents are kept for the answer only where they are asked back."""
    answer = {"top_n": body.get("top_n") or 0}
    if body.get("return_documents"):
        answer["documents"] = body["documents"]
    return RerankRequest(RERANK, body["model"], body["query"], body["documents"], answer=answer)


def rerank_result(job: Job) -> Json:
    """The best first; of equal ones that which was named first."""
    assert job.outcome is not None
    scores = [floats(vector)[0] for vector in job.outcome.vectors]
    best = sorted(range(len(scores)), key=lambda index: -scores[index])[: job.answer.get("top_n") or len(scores)]
    results: list[Json] = [{"index": index, "relevance_score": scores[index]} for index in best]
    if documents := job.answer.get("documents"):
        for result in results:
            result["document"] = {"text": documents[result["index"]]}
    tokens = job.outcome.usage.prompt_tokens
    return {
        "id": "rerank-" + job.id.removeprefix("job_"),
        "object": "list",
        "model": job.model,
        "results": results,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "meta": {"tokens": {"input_tokens": tokens, "output_tokens": 0}},
    }


OPERATIONS = (Operation(RERANK, schemas.Rerank(), rerank_request, rerank_result),)
