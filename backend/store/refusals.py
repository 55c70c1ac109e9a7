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
# A value that the database will not take.
_CLASS_OF_WRONG_VALUES = "22"


async def call_for_caller(
    api: DataApi, function: str, parameters: Mapping[str, Any], *, retry_seconds: float
) -> Any:  # noqa: ANN401 # JSON
    """Call a function that may be sent again, as it is when an answer is lost, and return what it does.

    Raises:
        AccessDeniedError: the caller may not do it; nothing was changed. Likewise
        NotFoundError: it is about something that is not there,
        ConflictError: it contradicts what is there,
        InvalidRequestError: a value is none.
        StoreUnavailableError: the record was not reached in time; it may or may not have been done.
    """
    try:
        return await record_with_retry(lambda: api.call(function, parameters), seconds=retry_seconds)
    except RecordError as error:
        refused_as = _REFUSALS.get(error.code)
        if error.code.startswith(_CLASS_OF_WRONG_VALUES):
            refused_as = InvalidRequestError
        if refused_as is None:
            raise
        raise refused_as(" ".join(filter(None, (error.told, error.hint)))) from error
