"""Calls of functions that refuse what a caller asks for: by HTTP statuses in SQLSTATEs, in words for the caller."""

from collections.abc import Mapping
from typing import Any

from backend.errors import (
    AccessDeniedError,
    ClearfloorError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from backend.retries import record_with_retry
from backend.store.client import DataApi, RecordError

_REFUSALS: Mapping[str, type[ClearfloorError]] = {
    "PT403": AccessDeniedError,
    "PT404": NotFoundError,
    "PT409": ConflictError,
}
# A value that the database will not take; by its own code our functions say themselves what is wrong with one.
_CLASS_OF_WRONG_VALUES = "22"
_OUR_REFUSAL_OF_A_VALUE = "22023"


async def call_for_caller(
    api: DataApi, function: str, parameters: Mapping[str, Any], *, retry_seconds: float
) -> Any:  # noqa: ANN401 # JSON
    """Call a function and return what it does; again for so long, 0: once, when its answer is lost.

    Raises:
        AccessDeniedError: the caller may not do it; nothing was changed. Likewise
        NotFoundError: it is about something that is not there,
        ConflictError: it contradicts what is there,
        InvalidRequestError: a value is none.
        StoreUnavailableError: the record was not reached in time; it may or may not have been done.
    """
    try:
        if not retry_seconds:
            return await api.call(function, parameters)
        return await record_with_retry(lambda: api.call(function, parameters), seconds=retry_seconds)
    except RecordError as error:
        raise _refusal(error) from error


def _refusal(error: RecordError) -> Exception:
    told = " ".join(filter(None, (error.told, error.hint)))
    if error.code in _REFUSALS:
        return _REFUSALS[error.code](told)
    if error.code == _OUR_REFUSAL_OF_A_VALUE:
        return InvalidRequestError(told)
    if error.code.startswith(_CLASS_OF_WRONG_VALUES):
        return InvalidRequestError("A value is one that the record cannot hold. Nothing was changed.")
    return error
