"""The header that makes a repeated request one: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/."""

import re

from fastapi import Request

from backend.errors import InvalidRequestError

KEY_HEADER = "idempotency-key"
_KEY = re.compile(r"[!-~]([ -~]{0,253}[!-~])?")


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key, or None if it has none.

    Raises:
        InvalidRequestError: it is empty, too long, not plain ASCII, or there are two.
    """
    keys = request.headers.getlist(KEY_HEADER)
    if not keys:
        return None
    if len(keys) > 1 or not _KEY.fullmatch(keys[0]):
        raise InvalidRequestError(
            "`Idempotency-Key` is wrong: one of 1 to 255 printable ASCII characters, such as a UUID.",
            param=KEY_HEADER,
        )
    return keys[0]
