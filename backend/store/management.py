"""What members do to their organization: each a function of the database, which asks for the member's role itself."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from backend.errors import (
    AccessDeniedError,
    ClearfloorError,
    ConflictError,
    InvalidRequestError,
    NotFoundError,
)
from backend.retries import record_with_retry
from backend.store.client import DataApi, RecordError

# What the functions raise, as HTTP statuses in SQLSTATEs; class 22 is a value that the database will not take.
_REFUSALS: Mapping[str, type[ClearfloorError]] = {
    "PT403": AccessDeniedError,
    "PT404": NotFoundError,
    "PT409": ConflictError,
}
_CLASS_OF_WRONG_VALUES = "22"


async def manage(
    api: DataApi,
    function: str,
    *,
    acting_user_id: UUID,
    organization_id: UUID,
    retry_seconds: float,
    **parameters: Any,  # noqa: ANN401 # JSON
) -> Any:  # noqa: ANN401 # JSON
    """Have a member do something to its organization, and return what the function does.

    Sent again, as it is when an answer is lost, it changes nothing more: new rows have ids made beforehand.

    Raises:
        AccessDeniedError: the user is no member, or its role does not allow it; nothing was changed. Likewise
        NotFoundError: the organization has no such agent, key or member,
        ConflictError: it contradicts what is there,
        InvalidRequestError: a value is none.
        StoreUnavailableError: the record was not reached in time; it may or may not have been done.
    """
    given = parameters | {"acting_user_id": str(acting_user_id), "organization_id": str(organization_id)}
    try:
        return await record_with_retry(lambda: api.call(function, given), seconds=retry_seconds)
    except RecordError as error:
        refused_as = _REFUSALS.get(error.code)
        if error.code.startswith(_CLASS_OF_WRONG_VALUES):
            refused_as = InvalidRequestError
        if refused_as is None:
            raise
        raise refused_as(" ".join(filter(None, (error.told, error.hint)))) from error
