"""A caller's body in the terms of one attempt."""

from collections.abc import Mapping
from typing import Any

import msgspec

from backend.dispatch.attempt import Attempt
from backend.dispatch.order import Order

_LIMIT_FIELDS = ("max_tokens", "max_completion_tokens")


def provider_body(order: Order, attempt: Attempt) -> Mapping[str, Any]:
    """Return what is sent: the caller's fields as they came, but for the model, the limit and what a stream needs."""
    candidate = attempt.scored.candidate
    body: dict[str, Any] = {name: value for name, value in order.body.items() if name not in _LIMIT_FIELDS}
    body["model"] = candidate.upstream_model
    # By the one field that this provider obeys, whichever the caller used: the reservation counts on it.
    body[candidate.output_limit_field] = attempt.output_limit_tokens
    if order.stream:
        # Always asked for: an answer without usage could only be estimated. Stripped again for callers who did not ask.
        options = msgspec.json.decode(body.get("stream_options", msgspec.Raw(b"null"))) or {}
        body["stream_options"] = {**options, "include_usage": True}
    return body
