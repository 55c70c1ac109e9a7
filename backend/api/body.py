"""Reads a request's body: up to a limit, and into a type."""

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
from fastapi import Request

from backend.errors import InvalidRequestError, RequestTooLargeError
from backend.units import nano_usd

T = TypeVar("T")

_WHERE = re.compile(r"(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?", re.DOTALL)
_NAMED_FIELD = re.compile(r".* (?:required|unknown) field `(?P<name>[^`]*)`")


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


def decode_body(decode: Callable[[bytes], T], content: bytes, *, known_fields: Sequence[str] = ()) -> T:
    """Return what a decoder of msgspec makes of a body. ``known_fields`` are told to whoever sends an unknown one.

    Raises:
        InvalidRequestError: it is not JSON, or a field is missing or wrong; the error names it.
    """
    try:
        return decode(content)
    except msgspec.ValidationError as error:
        raise _invalid(str(error), known_fields) from error
    except msgspec.DecodeError as error:
        raise InvalidRequestError(f"The body is not JSON: {error}.") from error
    except RecursionError as error:
        raise InvalidRequestError("The body is nested too deeply.") from error


def decode_amount(text: str, param: str) -> int:
    """Return an amount in USD, as text, in nano-USD.

    Raises:
        InvalidRequestError: it is none; the error names ``param``.
    """
    try:
        return nano_usd(text)
    except ValueError as error:
        raise InvalidRequestError(f"{error}. Nothing was changed.", param=param) from error


def _invalid(described: str, known_fields: Sequence[str]) -> InvalidRequestError:
    """Make the error of what msgspec says, such as ``Expected `int | null`, got `str` - at `$.n` ``."""
    found = _WHERE.fullmatch(described)
    what, path = (found["what"], found["path"] or "") if found else (described, "")
    named = _NAMED_FIELD.fullmatch(what)
    steps = [*path.replace("[", ".").replace("]", "").split("."), named["name"] if named else ""]
    param = ".".join(step for step in steps if step) or None
    known = f" There are {', '.join(known_fields)}." if known_fields and "unknown field" in what else ""
    return InvalidRequestError(f"`{param or 'body'}` is wrong: {what}.{known}", param=param)
