"""The body of `POST /v1/jobs`."""

from __future__ import annotations

from marshmallow import fields, validate

from api.schemas.fields import Body, Number, Text
from api.schemas.openai import Metadata

#: A week: a batch that waits longer than this has been forgotten.
MAX_TIMEOUT_S = 7 * 86_400


class NewJob(Body):
    unsupported = {"webhook": ()}

    endpoint = Text(required=True, validate=validate.Length(max=100))
    body = fields.Dict(keys=fields.String(), required=True)
    timeout = Number(0.001, MAX_TIMEOUT_S)
    queue_timeout = Number(0.001, MAX_TIMEOUT_S)
    lane = Text(load_default="interactive", validate=validate.OneOf(["interactive", "batch"]))
    metadata = Metadata()
