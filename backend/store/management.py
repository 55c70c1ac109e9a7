"""What members do to their organization: each a function of the database, which asks for the member's role itself."""

from typing import Any
from uuid import UUID

from backend.store.client import DataApi
from backend.store.refusals import call_for_caller

# What may be sent again when an answer is lost: new rows have ids made beforehand. Another change would be judged, the second
# time, by what the first has done, or undo what somebody did in between.
_REPEATABLE = frozenset({"create_agent", "create_api_key", "rotate_api_key", "revoke_api_key", "add_member"})


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

    :func:`backend.store.refusals.call_for_caller` says what it raises.
    """
    given = parameters | {"acting_user_id": str(acting_user_id), "organization_id": str(organization_id)}
    seconds = retry_seconds if function in _REPEATABLE else 0
    return await call_for_caller(api, function, given, retry_seconds=seconds)
