"""Reads a request's body, up to a limit."""

from fastapi import Request

from backend.errors import RequestTooLargeError


async def read_body(request: Request, most_bytes: int) -> bytes:
    """Return the body.

    Raises:
        RequestTooLargeError: it is larger than ``most_bytes``; the rest is not read.
    """
    blocks = bytearray()
    async for block in request.stream():
        blocks += block
        if len(blocks) > most_bytes:
            raise RequestTooLargeError(f"The body is larger than {most_bytes} bytes. Nothing was called.")
    return bytes(blocks)
