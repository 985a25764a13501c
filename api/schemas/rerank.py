"""The body of a rerank request. Wire: Cohere's and Jina's `POST /v1/rerank`, which other servers took over."""

from __future__ import annotations

from typing import Any

from marshmallow import ValidationError, fields, validate

from api.schemas.fields import MAX_TOKENS, MODEL, Body, Flag, Text, Whole


class Documents(fields.Field[tuple[str, ...]]):
    """Texts, each a string or an object with a `text`. How many there may be is checked in `api.serve`."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> tuple[str, ...]:
        if not isinstance(value, list) or not value:
            raise ValidationError("Not a list of documents; it must not be empty.")
        return tuple(self._document(index, document) for index, document in enumerate(value))

    def _document(self, index: int, document: Any) -> str:
        text = document.get("text") if isinstance(document, dict) else document
        if not isinstance(text, str):
            raise ValidationError({index: ["Not a text, nor an object with a text."]})
        try:
            return str(Text().deserialize(text))
        except ValidationError as error:
            raise ValidationError({index: error.messages}) from None


class Rerank(Body):
    unsupported = {"rank_fields": (["text"],), "max_chunks_per_doc": (), "max_tokens_per_doc": ()}

    model = Text(**MODEL)
    query = Text(required=True, validate=validate.Length(min=1))
    documents = Documents(required=True)
    top_n = Whole(1, MAX_TOKENS)
    return_documents = Flag(load_default=False)
    user = Text(validate=validate.Length(max=512))
