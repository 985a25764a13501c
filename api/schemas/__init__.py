"""The shapes of request bodies. Unknown fields are left out, as OpenAI's API does; known, unsupported ones refused."""
