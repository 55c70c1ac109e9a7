"""Reads a request's body, up to a limit."""

from fastapi import Request

from backend.errors import InvalidRequestError, RequestTooLargeError


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        InvalidRequestError: it is compressed.
        RequestTooLargeError: it is larger than ``most_bytes``; the rest is not read.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise InvalidRequestError(
            f"Bodies in `{encoding}` are not read here: send it uncompressed.", param="content-encoding"
        )
    blocks = bytearray()
    async for block in request.stream():
        blocks += block
        if len(blocks) > most_bytes:
            raise RequestTooLargeError(f"The body is larger than {most_bytes} bytes. Nothing was called.")
    return bytes(blocks)
