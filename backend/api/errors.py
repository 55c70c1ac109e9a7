"""Errors as HTTP, in one place."""

import math
from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backend.errors import ClearfloorError, InvalidRequestError, NotFoundError


def add_error_handlers(app: FastAPI) -> None:
    """Let the application answer every error that is expected with OpenAI's envelope."""

    @app.exception_handler(ClearfloorError)
    async def clearfloor_error(_request: Request, error: ClearfloorError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        return error_response(InvalidRequestError(f"`{param}` is wrong: {first['msg']}.", param=param))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        route = f"{request.method} {request.url.path}"
        if error.status_code == HTTPStatus.NOT_FOUND:
            hint = "" if request.url.path.startswith("/v1/") else " Its base URL ends in `/v1`."
            return error_response(NotFoundError(f"There is no {route} here.{hint} See docs/api.md."))
        wrong = InvalidRequestError(f"{route}: {error.detail}.")
        wrong.status = error.status_code
        wrong.headers = dict(error.headers or {})
        return error_response(wrong)


def error_response(error: ClearfloorError) -> JSONResponse:
    """Return an error as its caller sees it."""
    headers = dict(error.headers)
    if error.should_retry is False:
        # OpenAI's SDKs obey it: one call does not repeat a whole failover.
        headers["x-should-retry"] = "false"
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
    return JSONResponse(error.envelope(), status_code=error.status, headers=headers)
