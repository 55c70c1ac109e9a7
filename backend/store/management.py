"""What members do to their organization: each a function of the database, which asks for the member's role itself."""

from typing import Any
from uuid import UUID

from backend.store.client import DataApi
from backend.store.refusals import call_for_caller


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
    :func:`backend.store.refusals.call_for_caller` says what it raises.
    """
    given = parameters | {"acting_user_id": str(acting_user_id), "organization_id": str(organization_id)}
    return await call_for_caller(api, function, given, retry_seconds=retry_seconds)
