"""Errors as HTTP, in one place."""

import logging
import math

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from backend.errors import ClearfloorError, InternalError, InvalidRequestError, NotFoundError

_LOGGER = logging.getLogger(__name__)
_NOT_FOUND = 404


def add_error_handlers(app: FastAPI) -> None:
    """Let the application answer every error with OpenAI's envelope."""

    @app.exception_handler(ClearfloorError)
    async def clearfloor_error(_request: Request, error: ClearfloorError) -> JSONResponse:
        return _response(error)

    @app.exception_handler(RequestValidationError)
    async def validation_error(_request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        param = str(first["loc"][-1])
        return _response(InvalidRequestError(f"`{param}` is wrong: {first['msg']}.", param=param))

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == _NOT_FOUND:
            return _response(NotFoundError(f"There is no {request.method} {request.url.path}."))
        wrong = InvalidRequestError(f"{request.method} {request.url.path}: {error.detail}.")
        wrong.status = error.status_code
        return _response(wrong)

    @app.exception_handler(Exception)
    async def unexpected(_request: Request, error: Exception) -> JSONResponse:
        _LOGGER.error("An internal fault", exc_info=error)
        return _response(InternalError("An internal fault. If it goes on, tell the operator."))


def _response(error: ClearfloorError) -> JSONResponse:
    headers = dict(error.headers)
    if error.should_retry is False:
        # OpenAI's SDKs obey it: one call does not repeat a whole failover.
        headers["x-should-retry"] = "false"
    if error.retry_after_seconds is not None:
        headers["retry-after"] = str(math.ceil(error.retry_after_seconds))
    return JSONResponse(error.envelope(), status_code=error.status, headers=headers)
